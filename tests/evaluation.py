"""What the tests of evaluation share: drawn photographs with masks, and tiny networks."""

import warnings
from pathlib import Path

import cv2
import numpy as np
import torch

from inference.contract import CLASSES
from inference.data.manifest import Photograph, write
from inference.evaluate.scene import Scene

LABEL = {name: index for index, name in enumerate(CLASSES)}


def exported(network: torch.nn.Module, file: Path) -> None:
    """Write a network as TorchScript, in which others publish theirs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(network).save(str(file))


def drawn(seed: int, side: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """A face of simple shapes and its labels; the seed moves and colours it."""
    draw = np.random.default_rng(seed)
    tone = draw.integers(150, 220)
    image = np.full((side, side, 3), (90, 110, 140), np.uint8)
    image += draw.integers(0, 12, image.shape, dtype=np.uint8)
    labels = np.zeros((side, side), np.uint8)
    x, y = side // 2 + int(draw.integers(-6, 7)), side // 2 + int(draw.integers(-6, 7))
    wide, tall = int(draw.integers(42, 56)), int(draw.integers(60, 72))
    skin = (int(tone), int(tone * 0.8), int(tone * 0.7))
    shapes = [
        ("skin", (x, y), (wide, tall), skin),
        ("eye", (x - 20, y - 15), (9, 5), (40, 60, 30)),
        ("eye", (x + 20, y - 15), (9, 5), (40, 60, 30)),
        ("nose", (x, y + 8), (7, 11), tuple(int(v * 0.9) for v in skin)),
        ("mouth", (x, y + 34), (17, 6), (150, 50, 60)),
        ("lesion", (x - 25, y + 12), (9, 8), (190, 70, 70)),
    ]
    for name, centre, axes, colour in shapes:
        cv2.ellipse(image, centre, axes, 0, 0, 360, colour, -1)
        cv2.ellipse(labels, centre, axes, 0, 0, 360, LABEL[name], -1)
    return image, labels


def scene(seed: int = 0, disease: str = "acne", patient: str = "") -> Scene:
    """A drawn photograph that lies in no file."""
    image, labels = drawn(seed)
    name = f"drawn{seed}"
    photograph = Photograph(Path(f"{name}.png"), Path(f"{name}-mask.png"), disease, patient or name, "test")
    return Scene(photograph, image, labels)


def written(folder: Path, seeds: list[int], splits: list[str], diseases: list[str]) -> list[Photograph]:
    """Drawn photographs as a manifest with files; every seed is another patient."""
    rows = []
    for seed, split, disease in zip(seeds, splits, diseases, strict=True):
        image, labels = drawn(seed)
        if disease == "normal":
            labels[labels == LABEL["lesion"]] = LABEL["skin"]
        picture, mask = folder / f"drawn{seed}.png", folder / f"drawn{seed}-mask.png"
        cv2.imwrite(str(picture), image[..., ::-1])
        cv2.imwrite(str(mask), labels)
        rows.append(Photograph(picture, mask, disease, f"patient{seed}", split))
    write(folder, rows)
    return rows
