"""The list of a site's photographs that every training and every evaluation reads: ``manifest.csv``.

One row a photograph, UTF-8, a header line with the columns of :data:`COLUMNS`. Paths are relative to the manifest's
folder. A mask is an 8-bit PNG of the photograph's size whose values index :data:`inference.contract.CLASSES`. All
photographs of one patient stand in one split.
"""

import codecs
import csv
import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from inference.contract import CLASSES, Image
from inference.data import DataError
from inference.data.pictures import Labels, read_image, read_labels, size

NAME = "manifest.csv"
COLUMNS = ("image", "mask", "disease", "patient", "split")
SPLITS = ("train", "validation", "test")
NORMAL = "normal"
"""The disease of a photograph that shows none."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong with a set of photographs.

    Attributes
    ----------
    where
        Row or file that it is about, as the manifest names it.
    what
        One sentence.
    fatal
        Nothing can be learnt before it is put right; otherwise it is for a person to look at.
    rows
        Lines of the manifest that it is about, where it can be told.
    """

    where: str
    what: str
    fatal: bool = True
    rows: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Photograph:
    """One row of the manifest.

    Attributes
    ----------
    image, mask
        Files; ``mask`` is an index PNG.
    disease
        Any name, or :data:`NORMAL`.
    patient
        Who is shown; only ever compared.
    split
        One of :data:`SPLITS`, or empty where none was chosen yet.
    row
        Line of the manifest, the header's being 1; 0 where it stands in none.
    name
        The picture's file name without its suffix; longer where that is another's in the manifest too.
    """

    image: Path
    mask: Path
    disease: str
    patient: str
    split: str
    row: int = field(default=0, compare=False)
    name: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", self.image.stem)

    @property
    def where(self) -> str:
        """What a finding calls it."""
        return f"row {self.row} ({self.image.name})" if self.row else self.image.name

    def read(self) -> tuple[Image, Labels]:
        """The picture, uint8 RGB (H, W, 3), and its mask, uint8 (H, W).

        Raises
        ------
        DataError
            One of them cannot be read, they differ in size, or the mask has values that are no class.
        """
        image, mask = read_image(self.image), read_labels(self.mask)
        self.fits(image.shape[:2], mask.shape)
        unknown = [str(value) for value in np.unique(mask[mask >= len(CLASSES)])]
        if unknown:
            raise DataError(
                f"{self.mask.name} has the values {', '.join(unknown[:5])}; classes are 0 to {len(CLASSES) - 1}."
            )
        return image, mask

    def fits(self, image: tuple[int, ...], mask: tuple[int, ...]) -> None:
        """Raise where the picture and the mask differ in height or width.

        Raises
        ------
        DataError
            They do.
        """
        if image != mask:
            raise DataError(
                f"{self.image.name} is {image[1]} × {image[0]}, but its mask {mask[1]} × {mask[0]}; "
                "export the mask at the picture's size."
            )


def manifest_file(data: Path) -> Path:
    """The manifest that ``data`` means: the file itself, or ``manifest.csv`` in that folder."""
    return data / NAME if data.is_dir() else data


def parse(data: Path) -> tuple[list[Photograph], list[Finding]]:
    """The rows that can be understood, and everything that is wrong with the others; :func:`leaks` judges the splits.

    Parameters
    ----------
    data
        The manifest or its folder.

    Raises
    ------
    DataError
        There is no manifest, or it lacks a column.
    """
    file = manifest_file(data)
    rows, findings = [], []
    seen: dict[str, int] = {}
    for number, row in enumerate(table(file, COLUMNS), start=2):
        where = f"row {number}"
        empty = [name for name in COLUMNS[:4] if not row[name]]
        if empty:
            findings.append(Finding(where, f"nothing in the column {', '.join(empty)}"))
            continue
        if row["split"] and row["split"] not in SPLITS:
            findings.append(Finding(where, f"the split {row['split']!r} is none of {', '.join(SPLITS)}"))
            continue
        image = os.path.normpath(row["image"])
        if image in seen:
            findings.append(Finding(where, f"{row['image']} was listed in row {seen[image]} already"))
            continue
        seen[image] = number
        folder = file.parent
        rows.append(
            Photograph(
                folder / row["image"],
                folder / row["mask"],
                row["disease"],
                row["patient"],
                row["split"],
                number,
            )
        )
    if not rows and not findings:
        findings.append(Finding(file.name, "there is no photograph in it"))
    names = _names([Path(image) for image in seen])
    return [replace(row, name=name) for row, name in zip(rows, names, strict=True)], findings


def _names(images: Sequence[Path]) -> list[str]:
    """What each picture is called: its stem; its folder and stem where that is not its alone; else by its path."""
    names = [image.stem for image in images]
    for longer in (_with_folder, _with_digest):
        count = Counter(names)
        names = [
            longer(image) if count[name] > 1 else name for image, name in zip(images, names, strict=True)
        ]
    return names


def _with_folder(image: Path) -> str:
    return f"{image.parent.name}_{image.stem}"


def _with_digest(image: Path) -> str:
    return f"{_with_folder(image)}-{hashlib.sha256(image.as_posix().encode()).hexdigest()[:12]}"


def table(file: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a CSV file with at least these columns, blanks about the values removed.

    Raises
    ------
    DataError
        Not readable as UTF-8, a column is missing, or a row has more values than the header has columns.
    """
    header, *lines = _lines(file)
    missing = [name for name in columns if name not in header]
    if missing and any(sign in "".join(header) for sign in ";\t"):
        raise DataError(f"{file.name} is not separated by commas; save it as CSV UTF-8 with commas.")
    if missing:
        raise DataError(f"{file.name} has no column {', '.join(missing)}; it needs {', '.join(columns)}.")
    for number, line in enumerate(lines, start=2):
        if any(line[len(header) :]):
            raise DataError(
                f"{file.name}, row {number} has more values than the header; put values with commas in quotes."
            )
    rows = [dict(zip_longest(header, line, fillvalue="")) for line in lines]
    return [{name: row[name].strip() for name in columns} for row in rows]


def _lines(file: Path) -> list[list[str]]:
    """The lines of a CSV file that are not empty, the header first."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            return [line for line in csv.reader(stream) if line] or [[]]
    except FileNotFoundError as error:
        raise DataError(f"There is no {file}.") from error
    except UnicodeError as error:
        raise DataError(f"{file.name} is not in UTF-8; save it as CSV UTF-8.") from error
    except (OSError, csv.Error) as error:
        raise DataError(f"{file} cannot be read as a UTF-8 CSV file ({type(error).__name__}).") from error


def leaks(rows: Iterable[Any]) -> list[Finding]:
    """Patients (``row.patient``) who stand in more than one split (``row.split``), with their lines (``row.row``)."""
    placed: dict[str, list[Any]] = defaultdict(list)
    for row in rows:
        if row.split:
            placed[row.patient].append(row)
    findings = []
    for patient, found in sorted(placed.items()):
        splits = sorted({row.split for row in found})
        if len(splits) > 1:
            what = f"stands in {' and '.join(splits)}: what is learnt would leak"
            findings.append(Finding(f"patient {patient}", what, rows=tuple(row.row for row in found)))
    return findings


def read(data: Path, *splits: str) -> list[Photograph]:
    """The photographs of these splits (all without any), in the manifest's order.

    Raises
    ------
    DataError
        The manifest is wrong anywhere, or leaves every asked-for split empty.
    """
    rows, findings = parse(data)
    refuse(findings + leaks(rows), manifest_file(data).name)
    chosen = [row for row in rows if not splits or row.split in splits]
    if not chosen:
        raise DataError(
            f"{manifest_file(data)} has no photograph in {' or '.join(splits)}; `gateway-models data split` chooses."
        )
    return chosen


def assigned(rows: Sequence[Photograph]) -> None:
    """Raise where a photograph has no split yet: what is made of it could be in none either.

    Raises
    ------
    DataError
        There is one.
    """
    missing = [row for row in rows if not row.split]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(rows)} photographs have no split, {missing[0].image.name} for one; "
            "`gateway-models data split` chooses."
        )


def present(rows: Iterable[Photograph]) -> None:
    """Raise where a picture or a mask is missing, is none, or is of another size, by what their headers say.

    Raises
    ------
    DataError
        The first fault, and how many rows have one.
    """
    faults = []
    for row in rows:
        try:
            row.fits(size(row.image), size(row.mask, mask=True))
        except DataError as error:
            faults.append(f"{row.where}: {error}")
    if faults:
        more = f" ({len(faults) - 1} more; `gateway-models data check` shows all)" if len(faults) > 1 else ""
        raise DataError(f"{faults[0]}{more}")


def refuse(findings: Sequence[Finding], name: str) -> None:
    """Raise for the first fatal finding, telling how many there are.

    Raises
    ------
    DataError
        There is one.
    """
    fatal = [finding for finding in findings if finding.fatal]
    if fatal:
        more = f" ({len(fatal) - 1} more)" if len(fatal) > 1 else ""
        raise DataError(
            f"{name}: {fatal[0].where}: {fatal[0].what}{more}. `gateway-models data check` shows everything at once."
        )


def write(folder: Path, rows: Iterable[Photograph], name: str = NAME) -> Path:
    """Write the manifest of ``folder``, paths relative to it."""
    lines = [
        (Path(os.path.relpath(row.image, folder)).as_posix(), Path(os.path.relpath(row.mask, folder)).as_posix(),
         row.disease, row.patient, row.split)
        for row in rows
    ]  # fmt: skip
    return write_table(folder / name, COLUMNS, lines)


def write_table(
    file: Path, columns: Sequence[str], lines: Iterable[Sequence[Any]], encoding: str = "utf-8"
) -> Path:
    """Replace ``file`` by a CSV table, whole or not at all."""
    fresh = file.with_suffix(".new")
    with fresh.open("w", encoding=encoding, newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(lines)
    fresh.replace(file)
    return file


def fill(file: Path, splits: Mapping[int, str]) -> Path:
    """Write the split of each line into a manifest and leave everything else in it as it is.

    Parameters
    ----------
    file
        The manifest.
    splits
        Split of each line, by its number (:attr:`Photograph.row`).
    """
    header, *lines = _lines(file)
    place = header.index("split")
    filled = [line + [""] * (len(header) - len(line)) for line in lines]
    for number, line in enumerate(filled, start=2):
        line[place] = splits[number]
    marked = file.read_bytes().startswith(codecs.BOM_UTF8)
    return write_table(file, header, filled, "utf-8-sig" if marked else "utf-8")
