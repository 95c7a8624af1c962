"""Annotations in COCO's form, polygons or RLE, brought into the manifest's: one index mask for every picture."""

import json
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from inference.contract import CLASSES, DISEASES
from inference.data import DataError
from inference.data.manifest import NORMAL, Labels, Photograph, read_labels, table, write

LESION = CLASSES.index("lesion")
WHO = ("image", "patient", "disease")
"""Columns of the table that names patients."""


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
        Folder of the new manifest.
    who
        CSV with the columns of :data:`WHO`, for files whose images have no keys ``patient`` and ``disease``.
    classes
        What a category is called in :data:`inference.contract.CLASSES`, where its name is not that already. A
        category named after a disease is a lesion of it.

    Raises
    ------
    DataError
        No COCO file, a category that means nothing here, a picture without a patient, or an annotation that cannot
        be drawn.
    """
    try:
        content: dict[str, Any] = json.loads(annotations.read_text(encoding="utf-8"))
        pictures = {int(one["id"]): one for one in content["images"]}
        names = {int(one["id"]): str(one["name"]).strip().lower() for one in content["categories"]}
        drawn: dict[int, list[tuple[int, dict[str, Any]]]] = defaultdict(list)
        for one in content["annotations"]:
            drawn[int(one["image_id"])].append((int(one["category_id"]), one))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{annotations} is no COCO file: {error!r}.") from error
    meant = {number: _class(name, classes or {}) for number, name in names.items()}
    known = {row["image"]: row for row in table(who, WHO)} if who else {}
    (out / "masks").mkdir(parents=True, exist_ok=True)
    rows = []
    for number, picture in pictures.items():
        file = str(picture["file_name"])
        patient, disease = (str(picture.get(k) or known.get(file, {}).get(k, "")).strip() for k in WHO[1:])
        if not patient:
            raise DataError(
                f"{file} names no patient; give --patients a CSV file with columns {', '.join(WHO)}."
            )
        shown = {names[category] for category, _ in drawn[number]} & {one.lower() for one in DISEASES}
        has_lesion = any(meant[category] == LESION for category, _ in drawn[number])
        if not disease:
            if has_lesion and len(shown) != 1:
                raise DataError(f"{file} has a lesion, but names no disease; add it to --patients.")
            disease = next(iter(shown)) if has_lesion else NORMAL
        mask = out / "masks" / f"{file.rsplit('.', 1)[0].replace('/', '_')}.png"
        labels = mask_of(picture, [(meant[category], one["segmentation"]) for category, one in drawn[number]])
        if not cv2.imwrite(str(mask), labels):
            raise OSError(f"{mask} cannot be written")
        rows.append(Photograph(images / file, mask, disease, patient, ""))
    write(out, rows)
    return rows


def mask_of(picture: Mapping[str, Any], segmentations: list[tuple[int, Any]]) -> Labels:
    """The index mask, uint8 (H, W), of one COCO image; later classes lie over earlier ones, lesions over all.

    Raises
    ------
    DataError
        A segmentation that is neither polygons nor RLE of the picture's size.
    """
    from pycocotools import mask as rle

    height, width = int(picture["height"]), int(picture["width"])
    labels = np.zeros((height, width), np.uint8)
    for index, segmentation in sorted(segmentations, key=lambda pair: pair[0]):
        try:
            if isinstance(segmentation, Mapping) and isinstance(segmentation["counts"], str):
                coded = {"size": segmentation["size"], "counts": segmentation["counts"].encode()}
            else:
                coded = rle.frPyObjects(segmentation, height, width)
            found = rle.decode(coded)
            if found.ndim == 3:  # one plane a polygon
                found = found.any(axis=2)
            labels[found > 0] = index
        except (ValueError, TypeError, KeyError, IndexError) as error:
            raise DataError(
                f"An annotation of {picture['file_name']} is neither polygons nor RLE of its size."
            ) from error
    return labels


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
        size = {"height": labels.shape[0], "width": labels.shape[1]}
        pictures.append(
            {"id": number, "file_name": name, **size, "patient": row.patient, "disease": row.disease}
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


def _class(name: str, classes: Mapping[str, str]) -> int:
    wanted = classes.get(name, name)
    if wanted in CLASSES:
        return CLASSES.index(wanted)
    if wanted in DISEASES:
        return LESION
    raise DataError(
        f"The category {name!r} is none of {', '.join((*CLASSES, *DISEASES))}; say what it is: --class '{name}=lesion'."
    )
