"""Masks that a person drew for one object: what to hide and what to keep, instead of what the segmentation says.

In one folder, named by the original's SOP Instance UID: ``<uid>.hide.png`` and ``<uid>.keep.png``, white where it
holds, of the picture's size, for every frame alike; or ``<uid>.seg.dcm``, a binary DICOM segmentation (PS3.3 A.51)
whose segments are labelled ``hide`` and ``keep``. What cannot be read or does not fit holds: a mask is never left out.
Shape letters: F frames, H rows, W columns.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.uid import SegmentationStorage

from gateway.errors import Held
from inference.anonymize import Given
from inference.contract import Mask

KINDS = ("hide", "keep")
_UID = re.compile(r"[0-9.]{1,64}")


@dataclass(frozen=True, slots=True)
class DrawnMasks:
    """The masks in a folder; one that does not exist has none."""

    folder: Path

    def find(self, source: Dataset, shape: tuple[int, ...]) -> list[Given] | None:
        """The masks drawn for an object whose frames have ``shape`` (F, H, W), one entry a frame; ``None`` without any.

        Raises
        ------
        Held
            ``masks``: there is one, and it cannot be read or does not fit.
        """
        uid = str(source.get("SOPInstanceUID", ""))
        if not _UID.fullmatch(uid):
            return None
        drawn: dict[str, NDArray[np.bool_]] = {}
        try:
            segmentation = self.folder / f"{uid}.seg.dcm"
            if segmentation.exists():
                drawn = _segments(segmentation, uid, shape)
            for kind in KINDS:
                file = self.folder / f"{uid}.{kind}.png"
                if file.exists():  # a picture goes before a segmentation
                    drawn[kind] = np.broadcast_to(_picture(file, shape, kind), shape)
        except Exception as error:  # whatever a broken file provokes in the libraries below
            raise Held(
                "masks", "a mask drawn for this object cannot be used: wrong size or not readable"
            ) from error
        if not drawn:
            return None
        return [
            Given(**{kind: np.ascontiguousarray(mask[frame]) for kind, mask in drawn.items()})
            for frame in range(shape[0])
        ]


def _picture(file: Path, shape: tuple[int, ...], kind: str) -> Mask:
    picture = cv2.imdecode(np.frombuffer(file.read_bytes(), np.uint8), cv2.IMREAD_GRAYSCALE)
    if picture is None or picture.shape != shape[1:]:
        raise ValueError("not of the object's size")
    # The soft edge of a brush is hidden, and is not kept.
    return np.asarray(picture > (0 if kind == "hide" else 127))


def _segments(file: Path, uid: str, shape: tuple[int, ...]) -> dict[str, NDArray[np.bool_]]:
    """The segments of a binary segmentation of this very object, by their label (PS3.3 C.8.20)."""
    ds = dcmread(file)
    if ds.SOPClassUID != SegmentationStorage or ds.SegmentationType != "BINARY":
        raise ValueError("no binary segmentation")
    labels = {int(one.SegmentNumber): str(one.SegmentLabel).strip().lower() for one in ds.SegmentSequence}
    if not labels or not set(labels.values()) <= set(KINDS):
        raise ValueError("segments are labelled hide and keep")
    planes = np.asarray(ds.pixel_array, np.uint8).reshape(-1, int(ds.Rows), int(ds.Columns)) > 0
    if planes.shape[1:] != shape[1:] or len(planes) != len(ds.PerFrameFunctionalGroupsSequence):
        raise ValueError("not of the object's size")
    drawn = {label: np.zeros(shape, np.bool_) for label in labels.values()}
    for plane, group in zip(planes, ds.PerFrameFunctionalGroupsSequence, strict=True):
        label = labels[int(_item(ds, group, "SegmentIdentificationSequence").ReferencedSegmentNumber)]
        source = _item(ds, group, "DerivationImageSequence").SourceImageSequence[0]
        if str(source.ReferencedSOPInstanceUID) != uid:
            raise ValueError("a segmentation of another object")
        of = source.get("ReferencedFrameNumber")
        numbers = range(1, shape[0] + 1) if of is None else [of] if isinstance(of, int) else list(of)
        for number in numbers:
            drawn[label][int(number) - 1] |= plane
    return drawn


def _item(ds: Dataset, group: Dataset, name: str) -> Any:
    """The functional group of one frame, or the one shared by all (PS3.3 C.7.6.16)."""
    shared = ds.SharedFunctionalGroupsSequence[0] if "SharedFunctionalGroupsSequence" in ds else Dataset()
    return getattr(group if name in group else shared, name)[0]
