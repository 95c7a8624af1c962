"""Which of two paintings of one photograph a person, or a scorer, prefers: ``pairs.csv`` or ``pairs.jsonl``.

One row a pair, with the keys of :data:`COLUMNS`; paths are relative to the file's folder. Both pictures show the same
photograph and differ only where ``hide`` (8-bit PNG, not 0 where it was painted over) is set: the original picture of
the hidden part is no part of a pair.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from inference.contract import Image, Mask
from inference.crops import centred_crop
from inference.data import DataError
from inference.data.manifest import (
    SPLITS,
    Finding,
    leaks,
    read_image,
    read_labels,
    refuse,
    table,
    write_table,
)

NAME = "pairs.csv"
COLUMNS = ("winner", "loser", "hide", "prompt", "patient", "split")


@dataclass(frozen=True, slots=True)
class Pair:
    """One row.

    Attributes
    ----------
    winner, loser, hide
        Files of one size.
    prompt
        What both were painted with; may be empty.
    patient, split
        As in the manifest.
    """

    winner: Path
    loser: Path
    hide: Path
    prompt: str
    patient: str
    split: str

    def read(self) -> tuple[Image, Image, Mask]:
        """Winner and loser, uint8 RGB (H, W, 3), and where they were painted, bool (H, W).

        Raises
        ------
        DataError
            A file cannot be read, sizes differ, nothing was painted, or the pictures differ elsewhere too.
        """
        winner, loser, hide = read_image(self.winner), read_image(self.loser), read_labels(self.hide) > 0
        if winner.shape != loser.shape or winner.shape[:2] != hide.shape:
            raise DataError(f"{self.winner.name}, {self.loser.name} and {self.hide.name} differ in size.")
        if not hide.any():
            raise DataError(f"{self.hide.name} says that nothing was painted.")
        if np.abs(winner[~hide].astype(int) - loser[~hide]).max(initial=0) > 0:
            raise DataError(
                f"{self.winner.name} and {self.loser.name} differ outside of {self.hide.name}; export them as PNG."
            )
        return winner, loser, hide

    def square(self, size_px: int) -> tuple[Image, Image, Mask]:
        """The same as squares of a side: whole where the pictures are square, else about what was painted."""
        winner, loser, hide = self.read()
        height, width = hide.shape
        if height == width:
            area = (size_px, size_px)
            seen = [
                np.asarray(cv2.resize(one, area, interpolation=cv2.INTER_AREA), np.uint8)
                for one in (winner, loser)
            ]
            mask = cv2.resize(hide.astype(np.uint8), area, interpolation=cv2.INTER_NEAREST)
            return seen[0], seen[1], np.asarray(mask > 0)
        ys, xs = np.nonzero(hide)
        side = 1.25 * (max(int(np.ptp(xs)), int(np.ptp(ys))) + 1)
        centre = np.array([(xs.min() + xs.max()) / 2, (ys.min() + ys.max()) / 2])
        crop = centred_crop(centre, side, np.array([0.0, 1.0]), size_px)
        return crop.take(winner), crop.take(loser), crop.take_labels(hide.astype(np.uint8)) > 0


def pairs_file(data: Path) -> Path:
    """The list that ``data`` means: the file itself, or ``pairs.csv``, else ``pairs.jsonl``, in that folder."""
    if not data.is_dir():
        return data
    return data / NAME if (data / NAME).is_file() else data / "pairs.jsonl"


def parse(data: Path) -> tuple[list[Pair], list[Finding]]:
    """The pairs that can be understood, and what is wrong with the others.

    Raises
    ------
    DataError
        The file cannot be read or lacks a column.
    """
    file = pairs_file(data)
    pairs, findings = [], []
    for number, row in enumerate(_rows(file), start=2 if file.suffix == ".csv" else 1):
        empty = [name for name in ("winner", "loser", "hide", "patient") if not row[name]]
        if empty:
            findings.append(Finding(f"row {number}", f"nothing under {', '.join(empty)}"))
        elif row["split"] not in SPLITS:
            findings.append(
                Finding(f"row {number}", f"the split {row['split']!r} is none of {', '.join(SPLITS)}")
            )
        else:
            winner, loser, hide = (file.parent / row[name] for name in COLUMNS[:3])
            pairs.append(Pair(winner, loser, hide, row["prompt"], row["patient"], row["split"]))
    if not pairs and not findings:
        findings.append(Finding(file.name, "there is no pair in it"))
    return pairs, findings + leaks(pairs)


def _rows(file: Path) -> Sequence[dict[str, str]]:
    if file.suffix != ".jsonl":
        return table(file, COLUMNS)
    rows = []
    try:
        for line in filter(str.strip, file.read_text(encoding="utf-8").splitlines()):
            row: dict[str, Any] = json.loads(line)
            rows.append({name: str(row.get(name) or "").strip() for name in COLUMNS})
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(f"{file} cannot be read as lines of JSON objects.") from error
    return rows


def read(data: Path, *splits: str) -> list[Pair]:
    """The pairs of these splits (all without any).

    Raises
    ------
    DataError
        The list is wrong anywhere, a patient stands in two splits, or the asked-for splits are empty.
    """
    pairs, findings = parse(data)
    refuse(findings, pairs_file(data).name)
    chosen = [pair for pair in pairs if not splits or pair.split in splits]
    if not chosen:
        raise DataError(f"{pairs_file(data)} has no pair in {' or '.join(splits)}.")
    return chosen


def write(file: Path, pairs: Sequence[Pair]) -> Path:
    """Write a CSV list of pairs, paths relative to its folder."""
    lines = [
        [*(path.relative_to(file.parent).as_posix() for path in (pair.winner, pair.loser, pair.hide)),
         pair.prompt, pair.patient, pair.split]
        for pair in pairs
    ]  # fmt: skip
    return write_table(file, COLUMNS, lines)
