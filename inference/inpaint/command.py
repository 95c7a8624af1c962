"""The command that trains the nano inpainter: autoencoder, then its decoder alone, then the UNet."""

import argparse
import tomllib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from diffusers import AutoencoderKL

from inference.inpaint.autoencoder import AutoencoderTraining, train_autoencoder
from inference.inpaint.build import without_paths
from inference.inpaint.data import load_portraits
from inference.inpaint.decoder import DecoderTraining, train_decoder
from inference.inpaint.perception import Perception
from inference.inpaint.train import InpaintTraining, train_inpaint

STAGES = ("both", "unet", "decoder")


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and train; each stage goes on where an earlier run was ended."""
    parser = argparse.ArgumentParser(prog="gateway-models train inpaint-base", description=__doc__)
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with images/, labels/ and faces.json"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for states and the finished pipeline")
    parser.add_argument(
        "--config", type=Path, default=Path("conf/training/inpaint-base.toml"), help="training recipe"
    )
    parser.add_argument(
        "--stage", choices=STAGES, action="append", help="only this stage (default: all, in order)"
    )
    parser.add_argument("--steps", type=int, help="steps of each stage, instead of the recipe's")
    parser.add_argument("--seconds", type=float, help="end each stage after this time")
    parser.add_argument("--threads", type=int, default=0, help="threads of torch (0: as many as cores)")
    parser.add_argument("--start", type=Path, help="begin with the weights of this pipeline, not at random")
    parser.add_argument(
        "--segmenter",
        type=Path,
        default=Path("bundles/nano/segmenter"),
        help="segmenter whose features judge the autoencoder's pictures",
    )
    given = parser.parse_args(argv)
    if given.threads:
        torch.set_num_threads(given.threads)
    recipe = tomllib.loads(given.config.read_text(encoding="utf-8"))
    limits = {name: getattr(given, name) for name in ("steps", "seconds") if getattr(given, name) is not None}
    portraits = load_portraits(given.data, held=False, variants=5, seed=int(recipe["seed"]))
    perception = Perception(given.segmenter)
    for stage in given.stage or STAGES:
        if stage == "both":
            start = given.start and AutoencoderKL.from_pretrained(given.start / "vae", local_files_only=True)
            training = replace(AutoencoderTraining(**recipe["both"]), **limits)
            train_autoencoder(portraits, given.out, training, perception, start)
        elif stage == "unet":
            vae = AutoencoderKL.from_pretrained(given.out / "vae", local_files_only=True)
            config = replace(InpaintTraining(**recipe["unet"]), **limits)
            train_inpaint(portraits, vae, given.out, config, start=given.start)
        else:
            train_decoder(portraits, given.out, replace(DecoderTraining(**recipe["decoder"]), **limits))
            ship_decoder(given.out)
    return 0


def ship_decoder(out: Path) -> None:
    """Put the autoencoder of ``out/vae`` into ``out/pipeline``, with the scaling the UNet was trained with."""
    scaling = float(AutoencoderKL.load_config(out / "pipeline" / "vae")["scaling_factor"])
    vae = AutoencoderKL.from_pretrained(out / "vae", local_files_only=True)
    vae.register_to_config(scaling_factor=scaling)
    vae.to(torch.float16).save_pretrained(out / "pipeline" / "vae")
    without_paths(out / "pipeline")


if __name__ == "__main__":
    raise SystemExit(main())
