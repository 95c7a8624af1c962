"""Portraits to learn from: pictures, one face each, its box and five landmarks.

Shape letters: K portraits, H × W a portrait's size. Pictures are uint8 RGB; geometry is in pixels, x before
y.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from inference.contract import Floats, Image
from inference.split import held_back


class PortraitsMissing(Exception):
    """The folder holds no portraits that can be read; the message says what is missing."""


@dataclass(frozen=True, slots=True, eq=False)
class Portrait:
    """One picture of one person.

    Attributes
    ----------
    name
        File name without its suffix; decides whether the portrait is held back.
    image
        uint8 RGB (H, W, 3).
    box
        float32 (4,): x0, y0, x1, y1.
    landmarks
        float32 (5, 2): eyes, nose tip, mouth corners, the subject's right first.
    """

    name: str
    image: Image
    box: Floats
    landmarks: Floats


def read(folder: Path, *, names: frozenset[str] | None = None) -> list[Portrait]:
    """The portraits of a folder with ``faces.json`` and ``images/``, in order of their names.

    Parameters
    ----------
    folder
        Holds ``faces.json`` (a list of name, box, landmarks5) and ``images/<name>.jpg``.
    names
        Read only these; all when ``None``.

    Raises
    ------
    PortraitsMissing
        ``faces.json`` or a picture it names cannot be read, or nothing is left to read.
    """
    try:
        entries = json.loads((folder / "faces.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PortraitsMissing(f"{folder} holds no readable faces.json") from error
    portraits = []
    for entry in sorted(entries, key=lambda each: str(each["name"])):
        if names is not None and entry["name"] not in names:
            continue
        picture = cv2.imread(str(folder / "images" / f"{entry['name']}.jpg"), cv2.IMREAD_COLOR)
        if picture is None:
            raise PortraitsMissing(f"{folder} names {entry['name']}, but its picture cannot be read")
        portraits.append(
            Portrait(
                name=entry["name"],
                image=np.ascontiguousarray(picture[:, :, ::-1]),
                box=np.asarray(entry["box"], np.float32),
                landmarks=np.asarray(entry["landmarks5"], np.float32),
            )
        )
    if not portraits:
        raise PortraitsMissing(f"{folder} holds no portrait to read")
    return portraits


def names_in(folder: Path) -> tuple[str, ...]:
    """The names in ``faces.json``, sorted.

    Raises
    ------
    PortraitsMissing
        ``faces.json`` cannot be read.
    """
    try:
        entries = json.loads((folder / "faces.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PortraitsMissing(f"{folder} holds no readable faces.json") from error
    return tuple(sorted(str(entry["name"]) for entry in entries))


def for_training(folder: Path) -> list[Portrait]:
    """Every portrait that is not held back."""
    names = names_in(folder)
    return read(folder, names=frozenset(names) - held_back(names))


def for_validation(folder: Path) -> list[Portrait]:
    """The held-back portraits."""
    return read(folder, names=held_back(names_in(folder)))


MIRRORED: Sequence[int] = (1, 0, 2, 4, 3)
"""Order of the five landmarks after the picture was mirrored: the subject's right is the other side."""
