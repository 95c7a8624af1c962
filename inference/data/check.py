"""Everything that is wrong with a set of photographs, found in one pass; and a sheet to look at.

Shape letters: H × W native size. Images are uint8 RGB.
"""

import hashlib
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np

from inference.contract import CLASSES, DISEASES, Image
from inference.data import DataError, manifest
from inference.data.manifest import NORMAL, Finding, Photograph
from inference.data.pictures import Labels, read_image, read_labels, turned

LESION, EYE, MOUTH = (CLASSES.index(name) for name in ("lesion", "eye", "mouth"))
SMALL_PX = 64
"""A face narrower than this teaches little."""
CELL_PX, CAPTION_PX, COLUMNS, SHOWN = 200, 36, 8, 64
"""Side of a picture on the sheet, height of what stands below it, pictures a row, and pictures at most."""
CAPTION = 34
"""Letters that fit below a picture."""
COLOURS = (
    (0, 0, 0),
    (60, 120, 220),
    (0, 200, 200),
    (240, 240, 60),
    (60, 220, 60),
    (240, 120, 40),
    (230, 40, 60),
)
"""RGB of each class on the sheet."""
UNKNOWN = (255, 0, 255)
"""RGB of values that are no class."""

Report = tuple[list[Photograph], list[Finding]]


def check(data: Path, tick: Callable[[], None] = lambda: None) -> Report:
    """The photographs of a manifest and everything found wrong with them; ``tick`` is called after each.

    Raises
    ------
    DataError
        There is no manifest, or it lacks a column.
    """
    rows, findings = manifest.parse(data)
    findings += manifest.leaks(rows)
    seen: dict[str, list[Photograph]] = defaultdict(list)
    for row in rows:
        try:
            image, labels = row.read()
        except DataError as error:
            findings.append(Finding(row.where, str(error), rows=(row.row,)))
        else:
            seen[hashlib.sha256(image.tobytes()).hexdigest()].append(row)
            findings += [
                Finding(row.where, what, fatal, (row.row,)) for what, fatal in _photograph(row, labels)
            ]
        tick()
    for same in seen.values():
        if len(same) > 1:
            leaking = len({row.split for row in same} - {""}) > 1
            also = ", ".join(row.where for row in same[1:])
            what = f"the same picture as {also}" + (
                ", in another split: what is learnt would leak" if leaking else ""
            )
            findings.append(Finding(same[0].where, what, leaking, tuple(row.row for row in same)))
    return rows, findings + _balance(rows) + _alike(rows)


def _photograph(row: Photograph, labels: Labels) -> list[tuple[str, bool]]:
    """What is wrong with one photograph's mask: a sentence, and whether it is fatal."""
    counts = np.bincount(labels.ravel(), minlength=len(CLASSES))
    if not counts[1:].any():
        return [("nothing of a person is labelled", True)]
    found = []
    if row.disease != NORMAL and not counts[LESION]:
        found.append((f"it shows {row.disease}, but no lesion is labelled", False))
    if row.disease == NORMAL and counts[LESION]:
        found.append(("a lesion is labelled, but the disease is normal", False))
    if not (counts[EYE] and counts[MOUTH]):
        found.append(("no eye or no mouth is labelled, so it is taken as upright", False))
    columns = np.flatnonzero(labels.any(axis=0))
    width = int(columns[-1] - columns[0]) + 1
    if width < SMALL_PX:
        found.append((f"what is labelled is only {width} pixels wide", False))
    if turned(row.image):
        found.append(("its EXIF orientation turns it; the mask must be that of the turned picture", False))
    return found


def _balance(rows: Sequence[Photograph]) -> list[Finding]:
    """Splits and diseases that are missing."""
    if rows and not any(row.split for row in rows):
        return [Finding("split", "none was chosen yet: gateway-models data split", False)]
    found = [
        Finding(row.where, "it has no split: gateway-models data split", rows=(row.row,))
        for row in rows
        if not row.split
    ]
    everywhere = {row.disease for row in rows}
    for name in sorted({row.split for row in rows} - {""}, key=manifest.SPLITS.index):
        missing = everywhere - {row.disease for row in rows if row.split == name}
        if missing:
            found.append(
                Finding(f"split {name}", f"has no photograph of {', '.join(sorted(missing))}", False)
            )
    return found


def _alike(rows: Sequence[Photograph]) -> list[Finding]:
    """Diseases and patients that are taken for different ones though only case, blanks or width tell them apart."""
    found = []
    for kind, known in (("disease", (NORMAL, *DISEASES)), ("patient", ())):
        written: dict[str, dict[str, list[Photograph]]] = defaultdict(dict)
        for name in known:
            written[_plain(name)][name] = []
        for row in rows:
            name = getattr(row, kind)
            written[_plain(name)].setdefault(name, []).append(row)
        for names in written.values():
            if len(names) > 1:
                about = [row for of_name in names.values() for row in of_name]
                leaking = kind == "patient" and len({row.split for row in about} - {""}) > 1
                what = "are taken for different ones" + (
                    "; if they are one, what is learnt leaks into another split" if leaking else ""
                )
                found.append(
                    Finding(
                        f"{kind} {' and '.join(map(repr, names))}",
                        what,
                        False,
                        tuple(row.row for row in about),
                    )
                )
    return found


def _plain(name: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


def sheet(rows: Sequence[Photograph], findings: Sequence[Finding]) -> Image:
    """Photographs with the outlines of their classes, uint8 RGB: those with findings first, framed red or yellow.

    At most :data:`SHOWN`; the others are taken evenly from the rest. Below each stand its line and file name.
    """
    worst: dict[int, bool] = {}
    for finding in findings:
        worst |= {number: worst.get(number, False) or finding.fatal for number in finding.rows}
    told = sorted((row for row in rows if row.row in worst), key=lambda row: not worst[row.row])[:SHOWN]
    rest = [row for row in rows if row.row not in worst]
    room = min(SHOWN - len(told), len(rest))
    chosen = told + [rest[int(i)] for i in np.linspace(0, len(rest) - 1, room).round()] if room else told
    cells = [_cell(row, worst.get(row.row)) for row in chosen]
    blank = np.full((CELL_PX + CAPTION_PX, CELL_PX, 3), 255, np.uint8)
    cells += [blank] * (-len(cells) % COLUMNS)
    lines = [np.hstack(cells[begin : begin + COLUMNS]) for begin in range(0, len(cells), COLUMNS)]
    return np.vstack(lines) if lines else np.hstack([blank] * COLUMNS)


def _cell(row: Photograph, fatal: bool | None) -> Image:
    cell = np.full((CELL_PX + CAPTION_PX, CELL_PX, 3), 255, np.uint8)
    frame = (110, 110, 110) if fatal is None else (220, 30, 30) if fatal else (230, 190, 0)
    try:
        image = read_image(row.image)
    except DataError:
        _say(cell, "unreadable", CELL_PX // 2)
    else:
        scale = (CELL_PX - 4) / max(image.shape)
        size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
        small = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
        with suppress(DataError):
            _outline(small, read_labels(row.mask))
        cell[2 : 2 + size[1], 2 : 2 + size[0]] = small
    cv2.rectangle(cell, (0, 0), (CELL_PX - 1, CELL_PX - 1), frame, 1 if fatal is None else 3)
    line = f"{row.row}: "
    _say(cell, line + row.image.name[len(line) - CAPTION :], CELL_PX + 14)
    _say(cell, f"{row.disease} / {row.split or '-'}"[:CAPTION], CELL_PX + 30)
    return cell


def _outline(small: Image, labels: Labels) -> None:
    """Draw the outline of each class, and of all values that are none, into a picture made small."""
    near = cv2.resize(labels, small.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    for index, colour in enumerate((*COLOURS, UNKNOWN)):
        if index:
            here = (np.minimum(near, len(CLASSES)) == index).astype(np.uint8)
            outline, _ = cv2.findContours(here, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
            cv2.drawContours(small, outline, -1, colour, 1)


def _say(cell: Image, text: str, y: int) -> None:
    told = text.encode("ascii", "replace").decode()
    cv2.putText(cell, told, (2, y), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1, cv2.LINE_AA)


def summary(rows: Sequence[Photograph]) -> dict[str, Counter[str]]:
    """Photographs by split and disease; a split not chosen is ``-``."""
    table: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        table[row.split or "-"][row.disease] += 1
    return dict(table)
