"""Pictures and index masks, read to their end or refused with a sentence.

Shape letters: H × W native size.
"""

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from inference.contract import Image
from inference.data import DataError

if TYPE_CHECKING:
    from PIL import Image as Pictures

ORIENTATION = 0x0112
"""EXIF's number for how a picture is turned."""
BROKEN = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error)
"""What Pillow raises for files that are no whole pictures."""

Labels = NDArray[np.uint8]


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
    try:
        bgr = cv2.imread(str(file), cv2.IMREAD_COLOR)  # which fills in what is missing, and does not say so
    except cv2.error:
        bgr = None
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


def size(file: Path, *, mask: bool = False) -> tuple[int, int]:
    """Height and width, by the header; a picture's as its EXIF orientation turns it.

    Raises
    ------
    DataError
        No picture, or a mask that is not of one 8-bit channel.
    """
    with _opened(file) as opened:
        width, height = opened.size
        if mask:
            _one_channel(file, opened.mode)
        elif _turn(opened) > 4:
            width, height = height, width
    return height, width


def turned(file: Path) -> bool:
    """Whether a picture's EXIF orientation turns or mirrors it.

    Raises
    ------
    DataError
        No picture.
    """
    with _opened(file) as opened:
        return _turn(opened) != 1


def _turn(opened: "Pictures.Image") -> int:
    from PIL import Image as Pictures

    try:
        return int(Pictures.Image.getexif(opened).get(ORIENTATION, 1))  # PNG's own would decode all of it
    except (TypeError, *BROKEN):
        return 1  # as whoever decodes it takes it


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


def _one_channel(file: Path, mode: str) -> None:
    if mode not in {"L", "P", "1"}:
        raise DataError(
            f"{file.name} is a mask of mode {mode}; it must be a PNG of one 8-bit channel of indices."
        )
