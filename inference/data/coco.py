"""Annotations in COCO's form, polygons or RLE, brought into the manifest's: one index mask for every picture."""

import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from inference.contract import CLASSES, DISEASES, Mask
from inference.data import DataError
from inference.data.manifest import NAME, NORMAL, Photograph, table, write
from inference.data.pictures import Labels, read_labels, size

LESION = CLASSES.index("lesion")
WHO = ("image", "patient", "disease")
"""Columns of the table that names patients."""
KINDS = {"images": ("file_name", "height", "width"), "categories": ("name",)}
"""What the entries of a COCO file need besides their id."""
TOLD = 20
"""Faults that are told one by one."""


@dataclass(frozen=True, slots=True)
class Shape:
    """One annotation: where the file has it, the class it is, the disease if its category names one, its outline."""

    where: str
    label: int
    disease: str
    segmentation: Any


@dataclass(frozen=True, slots=True)
class Picture:
    """One image of a COCO file, and what is drawn on it; ``patient`` and ``disease`` are empty where not told."""

    file: str
    height: int
    width: int
    patient: str
    disease: str
    shapes: list[Shape]


def import_coco(
    annotations: Path,
    images: Path,
    out: Path,
    who: Path | None = None,
    classes: Mapping[str, str] | None = None,
) -> list[Photograph]:
    """Write ``masks/`` and ``manifest.csv`` (without splits) into ``out`` for the pictures of a COCO file.

    Parameters
    ----------
    annotations
        COCO's JSON: ``images``, ``categories``, ``annotations`` with polygons, RLE or compressed RLE.
    images
        Folder that the pictures' ``file_name`` starts from; the pictures stay there.
    out
        Folder of the new manifest; it may hold neither a manifest nor masks yet.
    who
        CSV with the columns of :data:`WHO`, for files whose images have no keys ``patient`` and ``disease``.
    classes
        What a category is called in :data:`inference.contract.CLASSES`, where its name is not that already. A
        category named after a disease is a lesion of it.

    Raises
    ------
    DataError
        No COCO file, or one with faults, which are told together: a category that means nothing here, a picture that
        is missing, of another size, or without a patient, an id that stands for nothing or for two, an annotation
        that cannot be drawn. Then nothing was written.
    """
    for there in (out / NAME, out / "masks"):
        if there.exists():
            raise DataError(f"{there} is there already and is not replaced; name another --out.")
    faults: list[str] = []
    listed = _pictures(_content(annotations), classes or {}, faults)
    known = _known(who, faults)
    rows, masks = [], []
    for picture, name in zip(listed, _names(picture.file for picture in listed), strict=True):
        row = known.get(picture.file, {})
        patient, disease = (
            picture.patient or row.get("patient", ""),
            picture.disease or row.get("disease", ""),
        )
        if not patient:
            faults.append(f"{picture.file} names no patient; give --patients, a CSV of {', '.join(WHO)}")
        if not disease and any(shape.label == LESION for shape in picture.shapes):
            shown = {shape.disease for shape in picture.shapes} - {""}
            if len(shown) != 1:
                faults.append(f"{picture.file} has a lesion, but names no disease; add it to --patients")
            disease = next(iter(shown), "")
        try:
            _fits(picture, images / picture.file)
        except DataError as error:
            faults.append(str(error))
            continue
        masks.append(cv2.imencode(".png", mask_of(picture, faults))[1].tobytes())
        rows.append(Photograph(images / picture.file, out / "masks" / name, disease or NORMAL, patient, ""))
    if faults:
        more = [f"… and {len(faults) - TOLD} more"] if len(faults) > TOLD else []
        told = "\n  ".join([*faults[:TOLD], *more])
        raise DataError(f"{annotations.name}: nothing was imported; put right\n  {told}")
    (out / "masks").mkdir(parents=True)
    for one, mask in zip(rows, masks, strict=True):
        one.mask.write_bytes(mask)
    write(out, rows)
    return rows


def _content(file: Path) -> dict[str, list[Any]]:
    """The three lists of a COCO file."""
    kinds = (*KINDS, "annotations")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{file} is no COCO file: {error}.") from error
    if not isinstance(content, dict) or not all(isinstance(content.get(kind), list) for kind in kinds):
        raise DataError(f"{file} is no COCO file: it needs the lists {', '.join(kinds)}.")
    return content


def _pictures(
    content: Mapping[str, list[Any]], classes: Mapping[str, str], faults: list[str]
) -> list[Picture]:
    """The images that can be understood, with what is drawn on them; what is wrong goes to ``faults``."""
    images, categories = (_by_id(content[kind], kind, faults) for kind in KINDS)
    meant: dict[int, tuple[int, str]] = {}
    names = {number: str(one["name"]).strip().lower() for number, one in categories.items() if one}
    for number, name in names.items():
        try:
            meant[number] = _class(name, classes)
        except DataError as error:
            faults.append(str(error))
    faults += [f"--class {one}=…: no category is called so" for one in classes if one not in names.values()]
    shapes: dict[int, list[Shape]] = defaultdict(list)
    strays: dict[str, list[str]] = defaultdict(list)
    for place, one in enumerate(content["annotations"]):
        where = f"annotations[{place}]"
        try:
            image, category, segmentation = (
                _whole(one["image_id"]),
                _whole(one["category_id"]),
                one["segmentation"],
            )
        except (LookupError, TypeError, ValueError, OverflowError):
            faults.append(f"{where} lacks a segmentation, or a number as image_id or category_id")
            continue
        for kind, number, there in (("image", image, images), ("category", category, categories)):
            if number not in there:
                strays[f"of the {kind} {number}, which is not listed"].append(where)
        if image in images and category in meant:
            shapes[image].append(Shape(where, *meant[category], segmentation))
    for what, (first, *more) in strays.items():
        faults.append(f"{first} and {len(more)} more are {what}" if more else f"{first} is {what}")
    if not images:
        faults.append("it lists no picture")
    listed = [
        Picture(str(one["file_name"]), _whole(one["height"]), _whole(one["width"]), _text(one.get("patient")),
                _text(one.get("disease")), shapes[number])
        for number, one in images.items() if one
    ]  # fmt: skip
    often = Counter(one.file for one in listed)
    faults += [f"{file} is listed {count} times" for file, count in often.items() if count > 1]
    return listed


def _by_id(entries: Sequence[Any], kind: str, faults: list[str]) -> dict[int, dict[str, Any] | None]:
    """The entries of a list by their id, None for those that lack something."""
    found: dict[int, dict[str, Any] | None] = {}
    for place, one in enumerate(entries):
        try:
            number = _whole(one["id"])
        except (LookupError, TypeError, ValueError, OverflowError):
            faults.append(f"{kind}[{place}] has no number as its id")
            continue
        lacks = [key for key in KINDS[kind] if not _says(one, key)]
        if number in found:
            faults.append(f"{kind}[{place}] has the id {number} of another")
        if lacks:
            faults.append(f"{kind}[{place}] has no {', '.join(lacks)}")
        found[number] = None if lacks else one
    return found


def _says(one: Mapping[str, Any], key: str) -> bool:
    try:
        return _whole(one[key]) > 0 if key in {"height", "width"} else _text(one[key]) != ""
    except (LookupError, TypeError, ValueError, OverflowError):
        return False


def _whole(value: Any) -> int:
    number = int(value)
    if number != float(value):
        raise ValueError(f"{value} is no whole number")
    return number


def _text(value: Any) -> str:
    return "" if value is None else str(value).strip()


def _known(who: Path | None, faults: list[str]) -> dict[str, dict[str, str]]:
    """The rows of the table of patients by their picture."""
    rows = table(who, WHO) if who else []
    found = {row["image"]: row for row in rows}
    faults += [f"--patients tells two things of {row['image']}" for row in rows if found[row["image"]] != row]
    return found


def _names(files: Iterable[str]) -> list[str]:
    """A name for the mask of each picture; the second of a name is numbered, also where case alone differs."""
    taken: set[str] = set()
    names = []
    for file in files:
        stem = name = file.rsplit(".", 1)[0].replace("/", "_")
        again = 1
        while name.casefold() in taken:
            again += 1
            name = f"{stem}-{again}"
        taken.add(name.casefold())
        names.append(f"{name}.png")
    return names


def _fits(picture: Picture, file: Path) -> None:
    """Raise where the picture of a COCO image is missing or of another size, as its EXIF orientation turns it."""
    try:
        height, width = size(file)
    except DataError as error:
        raise DataError(
            f"{picture.file} is missing or no picture; --images tells the folder that it lies in"
        ) from error
    if (height, width) != (picture.height, picture.width):
        raise DataError(
            f"{picture.file} is {width} × {height}, but annotated as {picture.width} × {picture.height}"
        )


def mask_of(picture: Picture, faults: list[str]) -> Labels:
    """The index mask, uint8 (H, W), of one COCO image; later classes lie over earlier ones, lesions over all.

    An annotation that is neither polygons nor RLE of the picture's size goes to ``faults``.
    """
    labels = np.zeros((picture.height, picture.width), np.uint8)
    for shape in sorted(picture.shapes, key=lambda one: one.label):
        try:
            labels[_drawn(shape.segmentation, picture.height, picture.width)] = shape.label
        except (LookupError, TypeError, ValueError, OverflowError):
            faults.append(f"{shape.where} of {picture.file} is neither polygons nor RLE of its size")
    return labels


def _drawn(segmentation: Any, height: int, width: int) -> Mask:
    """Where a segmentation is, bool (H, W)."""
    from pycocotools import mask as rle

    if isinstance(segmentation, Mapping):
        counts = segmentation["counts"]
        runs = np.asarray(_runs(counts) if isinstance(counts, str) else counts)
        whole = runs.dtype.kind in "iu" and ((runs >= 0) & (runs <= height * width)).all()
        if not whole or runs.sum() != height * width or list(segmentation["size"]) != [height, width]:
            raise ValueError("its runs do not make up the picture")
        return np.repeat(np.arange(len(runs)) % 2 > 0, runs).reshape(width, height).T
    polygons = [np.asarray(one, np.float64) for one in segmentation]
    for points in polygons:
        near = (np.abs(points) <= 2 * max(height, width)).all()
        if points.ndim != 1 or len(points) < 6 or len(points) % 2 or not near:
            raise ValueError("a polygon has three points or more, near the picture")
    coded = rle.frPyObjects([points.tolist() for points in polygons], height, width)
    return np.asarray(rle.decode(rle.merge(coded)) > 0)


def _runs(text: str) -> list[int]:
    """The runs that COCO's compressed RLE tells: numbers of five bits a character, from the third the difference.

    They are summed before anything is drawn: pycocotools draws what is cut, or too short for the picture, all the same.
    """
    runs: list[int] = []
    value = shift = 0
    for code in text.encode("ascii"):
        bits = code - 48
        if not 0 <= bits < 64:
            raise ValueError(f"{chr(code)!r} is no character of compressed RLE")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (1 << shift) if bits & 16 else 0
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    if shift:
        raise ValueError("it ends within a number")
    return runs


def write_coco(rows: Sequence[Photograph], file: Path) -> Path:
    """Write what the masks of photographs label as COCO annotations in compressed RLE, with patient and disease.

    Lesions are of a category named after the disease, where the contract knows it. Paths are relative to the file.
    """
    from pycocotools import mask as rle

    names = [
        *CLASSES[1:LESION],
        *dict.fromkeys(row.disease for row in rows if row.disease in DISEASES),
        "lesion",
    ]
    pictures: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, row in enumerate(rows, start=1):
        labels = read_labels(row.mask)
        name = Path(os.path.relpath(row.image, file.parent)).as_posix()
        sides = {"height": labels.shape[0], "width": labels.shape[1]}
        pictures.append(
            {"id": number, "file_name": name, **sides, "patient": row.patient, "disease": row.disease}
        )
        for index in np.unique(labels[labels > 0]).tolist():
            called = row.disease if index == LESION and row.disease in DISEASES else CLASSES[index]
            packed = rle.encode(np.asfortranarray(labels == index, np.uint8))
            segmentation = {"size": packed["size"], "counts": packed["counts"].decode()}
            annotations.append(
                {"id": len(annotations) + 1, "image_id": number, "category_id": names.index(called) + 1,
                 "segmentation": segmentation, "iscrowd": 1}
            )  # fmt: skip
    categories = [{"id": number, "name": name} for number, name in enumerate(names, start=1)]
    content = {"images": pictures, "categories": categories, "annotations": annotations}
    file.write_text(json.dumps(content) + "\n", encoding="utf-8")
    return file


def _class(name: str, classes: Mapping[str, str]) -> tuple[int, str]:
    """The class that a category is, and the disease that it names, if any."""
    wanted = classes.get(name, name)
    if wanted in CLASSES:
        return CLASSES.index(wanted), ""
    if wanted in DISEASES:
        return LESION, wanted
    raise DataError(
        f"the category {name!r} is none of {', '.join((*CLASSES, *DISEASES))}; say what it is: --class '{name}=lesion'"
    )
