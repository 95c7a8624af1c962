"""A Stable Diffusion 2 inpainting pipeline of random weights, small enough for a test, as a folder."""

from pathlib import Path

from inference.inpaint.sd2 import random_pipeline

SIDE = 64


def pipeline(**changes):
    """Such a pipeline."""
    return random_pipeline(tiny=True, **changes)


def saved(folder: Path, **changes) -> Path:
    """Such a pipeline as a folder."""
    pipeline(**changes).save_pretrained(folder)
    return folder
