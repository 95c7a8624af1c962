"""Between a picture of any shape and the model's square, and back.

Shape letters: H × W native size, S the square's side, C classes. Images are uint8 RGB.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from inference.contract import Floats, Image

FILL = (124, 116, 104)
"""RGB of the bars beside the picture: the mean that the model subtracts."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a picture lies in its square.

    Attributes
    ----------
    height, width
        Native size H and W.
    x, y, inner_width, inner_height
        The picture's rectangle within the square, pixels.
    """

    height: int
    width: int
    x: int
    y: int
    inner_width: int
    inner_height: int


def letterbox(image: Image, size_px: int) -> tuple[Image, Placement]:
    """The whole picture (H, W, 3), undistorted and centred in a square (S, S, 3), and where it lies there.

    Raises
    ------
    ValueError
        An empty picture.
    """
    height, width = image.shape[:2]
    if height == 0 or width == 0:
        raise ValueError("an empty picture has no place in a square")
    scale = size_px / max(height, width)
    inner_width, inner_height = max(round(width * scale), 1), max(round(height * scale), 1)
    placed = Placement(
        height, width, (size_px - inner_width) // 2, (size_px - inner_height) // 2, inner_width, inner_height
    )
    square = np.empty((size_px, size_px, 3), np.uint8)
    square[:] = FILL
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    inner = cv2.resize(image, (inner_width, inner_height), interpolation=how)
    square[placed.y : placed.y + inner_height, placed.x : placed.x + inner_width] = inner
    return square, placed


def unletterbox(values: Floats, placed: Placement) -> Floats:
    """Values (C, S, S) of the square brought back to the native picture: float32 (C, H, W), bilinear."""
    inner = values[:, placed.y : placed.y + placed.inner_height, placed.x : placed.x + placed.inner_width]
    size = (placed.width, placed.height)
    return np.stack([cv2.resize(channel, size, interpolation=cv2.INTER_LINEAR) for channel in inner])
