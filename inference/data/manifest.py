"""The list of a site's photographs that every training and every evaluation reads: ``manifest.csv``.

One row a photograph, UTF-8, a header line with the columns of :data:`COLUMNS`. Paths are relative to the manifest's
folder. A mask is an 8-bit PNG of the photograph's size whose values index :data:`inference.contract.CLASSES`. All
photographs of one patient stand in one split.
"""

import csv
import hashlib
import os
import struct
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from inference.contract import CLASSES, Image
from inference.data import DataError

if TYPE_CHECKING:
    from PIL import Image as Pictures

NAME = "manifest.csv"
COLUMNS = ("image", "mask", "disease", "patient", "split")
SPLITS = ("train", "validation", "test")
NORMAL = "normal"
"""The disease of a photograph that shows none."""

ORIENTATION = 0x0112
"""EXIF's number for how a picture is turned."""
BROKEN = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error)
"""What Pillow raises for files that are no whole pictures."""

Labels = NDArray[np.uint8]


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
    """

    where: str
    what: str
    fatal: bool = True


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


@contextmanager
def _opened(file: Path) -> "Iterator[Pictures.Image]":
    """A picture whose header was read; what fails within is a :class:`DataError`."""
    from PIL import Image as Pictures

    try:
        opened = Pictures.open(file)
    except Pictures.DecompressionBombError as error:
        raise DataError(f"{file.name} has far more pixels than a photograph; export it again.") from error
    except BROKEN as error:
        raise DataError(
            f"{file.name} is missing or no picture; correct the manifest or export it again."
        ) from error
    with opened:
        try:
            yield opened
        except DataError:
            raise
        except BROKEN as error:
            raise DataError(f"{file.name} is cut off or damaged; export it again.") from error


def read_image(file: Path) -> Image:
    """A picture as uint8 RGB (H, W, 3), turned as its EXIF orientation says.

    Raises
    ------
    DataError
        No picture, or none that can be decoded to its end.
    """
    with _opened(file) as opened:
        opened.draft(None, (1, 1))  # a JPEG is read to its end, but only an eighth of it is computed
        opened.load()
    bgr = cv2.imread(str(file), cv2.IMREAD_COLOR)  # which fills in what is missing, and does not say so
    if bgr is None:
        raise DataError(f"{file.name} is of a kind that is not read here; export it as JPEG or PNG.")
    return np.ascontiguousarray(bgr[..., ::-1], np.uint8)


def read_labels(file: Path) -> Labels:
    """An index mask, uint8 (H, W): the indices of a palette PNG, or the grey values of one channel.

    Raises
    ------
    DataError
        No PNG of one 8-bit channel.
    """
    with _opened(file) as opened:
        _one_channel(file, opened.mode)
        return np.asarray(opened, np.uint8)


def _one_channel(file: Path, mode: str) -> None:
    if mode not in {"L", "P", "1"}:
        raise DataError(
            f"{file.name} is a mask of mode {mode}; it must be a PNG of one 8-bit channel of indices."
        )


def _size(file: Path, *, mask: bool = False) -> tuple[int, int]:
    """Height and width, by the header; a picture's as its EXIF orientation turns it."""
    from PIL import Image as Pictures

    with _opened(file) as opened:
        width, height = opened.size
        if mask:
            _one_channel(file, opened.mode)
        elif Pictures.Image.getexif(opened).get(ORIENTATION, 1) > 4:  # PNG's own would decode all of it
            width, height = height, width
    return height, width


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
        Not readable as UTF-8, or a column is missing.
    """
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            missing = [name for name in columns if name not in (reader.fieldnames or ())]
            if missing:
                raise DataError(
                    f"{file.name} has no column {', '.join(missing)}; it needs {', '.join(columns)}."
                )
            return [{name: (row[name] or "").strip() for name in columns} for row in reader]
    except (OSError, UnicodeError, csv.Error) as error:
        raise DataError(f"{file} cannot be read as a UTF-8 CSV file ({type(error).__name__}).") from error


def leaks(rows: Iterable[Any]) -> list[Finding]:
    """Patients (``row.patient``) who stand in more than one split (``row.split``)."""
    splits: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if row.split:
            splits[row.patient].add(row.split)
    return [
        Finding(f"patient {patient}", f"stands in {' and '.join(sorted(found))}: what is learnt would leak")
        for patient, found in sorted(splits.items())
        if len(found) > 1
    ]


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
            row.fits(_size(row.image), _size(row.mask, mask=True))
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


def write_table(file: Path, columns: Sequence[str], lines: Iterable[Sequence[Any]]) -> Path:
    """Replace ``file`` by a CSV table, whole or not at all."""
    fresh = file.with_suffix(".new")
    with fresh.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(lines)
    fresh.replace(file)
    return file
