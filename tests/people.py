"""Sets of photographs of people who are discs on skin, for the tests of training."""

from pathlib import Path

import cv2
import numpy as np

from inference.data import patients, synthetic
from inference.data.manifest import Photograph
from inference.phantom import skin_patch

THREE = patients.shares("8:1:1")


def drawn(name: str, seed: int, size: int = 96) -> synthetic.Person:
    """A face of discs on skin, in front of a wall."""
    labels = np.zeros((size, size), np.uint8)
    c, r = size // 2, size * 3 // 8
    cv2.ellipse(labels, (c, c), (r, c - 4), 0, 0, 360, 1, -1)
    for x, y, label in ((-r // 2, -r // 2, 3), (r // 2, -r // 2, 3), (0, 0, 4), (0, r // 2, 5)):
        cv2.ellipse(labels, (c + x, c + y), (r // 4, r // 8), 0, 0, 360, label, -1)
    image = skin_patch(size, (seed % 5) / 5, seed)
    image[labels == 0] = (60, 90, 150)
    image[labels > 1] = (90, 40, 40)
    return synthetic.Person(name, image, labels)


def made(folder: Path, names: list[str], each: int = 2) -> list[Photograph]:
    people = (drawn(name, index) for index, name in enumerate(names))
    return synthetic.make(people, folder, each=each, seed=3, wanted=THREE)
