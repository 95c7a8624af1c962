"""Which of two paintings of one photograph a person, or a scorer, prefers: ``pairs.csv`` or ``pairs.jsonl``.

One row a pair, with the keys of :data:`COLUMNS`; paths are relative to the file's folder. Both pictures show the same
photograph and differ only where ``hide`` (8-bit PNG, not 0 where it was painted over) is set: the original picture of
the hidden part is no part of a pair.
"""

import hashlib
import json
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
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
    manifest_file,
    refuse,
    table,
    write_table,
)
from inference.data.pictures import read_image, read_labels

NAME, LINES = "pairs.csv", "pairs.jsonl"
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
    row
        Line of the list, the first being 1; 0 where it stands in none.
    """

    winner: Path
    loser: Path
    hide: Path
    prompt: str
    patient: str
    split: str
    row: int = field(default=0, compare=False)

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
    return data / NAME if (data / NAME).is_file() else data / LINES


def is_list(data: Path) -> bool:
    """Whether ``data`` is a list of pairs, by its first line, or a folder with one and without a manifest."""
    if data.is_dir():
        return pairs_file(data).is_file() and not manifest_file(data).is_file()
    if data.suffix == Path(LINES).suffix:
        return True
    try:
        with data.open(encoding="utf-8-sig") as stream:
            header = stream.readline(1000)
    except (OSError, UnicodeError):
        return data.name == NAME
    return "winner" in header and "loser" in header


def parse(data: Path) -> tuple[list[Pair], list[Finding]]:
    """The pairs that can be understood, and what is wrong with the others.

    Raises
    ------
    DataError
        The file cannot be read or lacks a column.
    """
    file = pairs_file(data)
    pairs: list[Pair] = []
    findings = []
    known: dict[Hashable, int] = {}
    for number, row in _rows(file):
        fault = row if isinstance(row, str) else _fault(row)
        if isinstance(row, dict) and not fault:
            winner, loser, hide = (file.parent / row[name] for name in COLUMNS[:3])
            pairs.append(Pair(winner, loser, hide, row["prompt"], row["patient"], row["split"], number))
            fault = _contradiction(known, winner.resolve(), loser.resolve(), number)
        if fault:
            findings.append(Finding(f"row {number}", fault))
    if not pairs and not findings:
        findings.append(Finding(file.name, "there is no pair in it"))
    return pairs, findings + leaks(pairs)


def check(data: Path, tick: Callable[[], None] = lambda: None) -> tuple[list[Pair], list[Finding]]:
    """The pairs of a list and everything found wrong with them and their pictures; ``tick`` is called after each.

    Raises
    ------
    DataError
        The list cannot be read or lacks a column.
    """
    listed, findings = parse(data)
    told = {finding.where for finding in findings}
    known: dict[Hashable, int] = {}
    for pair in listed:
        try:
            winner, loser, _ = pair.read()
        except DataError as error:
            fault = str(error)
        else:
            fault = _contradiction(known, _digest(winner), _digest(loser), pair.row)
        if fault and f"row {pair.row}" not in told:
            findings.append(Finding(f"row {pair.row}", fault))
        tick()
    return listed, findings


def _fault(row: dict[str, str]) -> str:
    """What is wrong with the values of a row; empty where nothing is."""
    empty = [name for name in ("winner", "loser", "hide", "patient") if not row[name]]
    if empty:
        return f"nothing under {', '.join(empty)}"
    return "" if row["split"] in SPLITS else f"the split {row['split']!r} is none of {', '.join(SPLITS)}"


def _contradiction(known: dict[Hashable, int], winner: Hashable, loser: Hashable, row: int) -> str:
    """What a preference says against those ``known``, which it joins, or says again; empty where nothing."""
    if winner == loser:
        return "winner and loser are the same picture"
    if (loser, winner) in known:
        return f"row {known[loser, winner]} prefers the other one of the same two; decide, and take one out"
    first = known.setdefault((winner, loser), row)
    return "" if first == row else f"says what row {first} says already; take it out"


def _digest(image: Image) -> bytes:
    return hashlib.sha256(repr(image.shape).encode() + image.tobytes()).digest()


def _rows(file: Path) -> Iterator[tuple[int, dict[str, str] | str]]:
    """The lines of a list by their number: their values, or what is wrong with them."""
    if file.suffix != Path(LINES).suffix:
        yield from enumerate(table(file, COLUMNS), start=2)
        return
    try:
        lines = file.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeError) as error:
        raise DataError(f"{file} cannot be read as UTF-8 lines ({type(error).__name__}).") from error
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield number, _object(line)


def _object(line: str) -> dict[str, str] | str:
    try:
        row: Any = json.loads(line)
    except ValueError as error:
        return f"no JSON object ({error})"
    if not isinstance(row, dict):
        return "no JSON object"
    given = {name: "" if row.get(name) is None else row[name] for name in COLUMNS}
    strange = [name for name, value in given.items() if type(value) not in {str, int}]
    if strange:
        return f"{', '.join(strange)} must be a text"
    return {name: str(value).strip() for name, value in given.items()}


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
