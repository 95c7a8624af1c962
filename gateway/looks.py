"""Where and how a picture is looked at for text: sizes and turns, and the places that are looked at again close by.

Points are x and y in pixels; H rows, W columns.
"""

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

LOOKS = ((1000, (0, 1, 2, 3)), (1500, (0, 1)), (3000, (0,)))
"""Longer side of each look in pixels, and the quarter turns it is made at."""
LARGEST_PX = LOOKS[-1][0]
ENLARGED = 2.0
"""Small pictures are enlarged by this at most."""
NEAR = 2.0
"""Read again around what was painted out, as a share of its height."""
NEAREST_PX = 32
"""Read again around it at the least."""

Rgb = NDArray[np.uint8]
Points = NDArray[np.float32]


def views(rgb: Rgb) -> Iterator[tuple[Rgb, Points]]:
    """The looks at one picture (H, W, 3), and the matrix (2, 3) that takes each look's points back to the picture."""
    height, width = rgb.shape[:2]
    before = 0
    for side_px, turns in LOOKS:
        scale = min(side_px / max(height, width), ENLARGED)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        if max(size) <= 1.2 * before:
            continue  # as large as the look before it
        before = max(size)
        way = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        small = (
            rgb if size == (width, height) else np.asarray(cv2.resize(rgb, size, interpolation=way), np.uint8)
        )
        for quarters in turns:
            yield (
                np.ascontiguousarray(np.rot90(small, quarters)),
                _back(size, quarters, width / size[0], height / size[1]),
            )


def _back(size: tuple[int, int], quarters: int, x_scale: float, y_scale: float) -> Points:
    """Where a point (x, y) of a picture of ``size``, turned counter-clockwise, comes from, in the original's pixels."""
    width, height = size
    way = {
        0: [[1, 0, 0], [0, 1, 0]],
        1: [[0, -1, width], [1, 0, 0]],
        2: [[-1, 0, width], [0, -1, height]],
        3: [[0, 1, 0], [-1, 0, height]],
    }[quarters]
    return np.asarray(np.diag([x_scale, y_scale]) @ np.array(way), np.float32)


def placed(box: Points, back: Points) -> Points:
    """Points (N, 2) of a look in the picture, by the look's matrix (2, 3)."""
    return np.asarray(box @ back[:, :2].T + back[:, 2], np.float32)


def places(painted: NDArray[np.bool_]) -> list[tuple[int, int, int, int]]:
    """Parts (x0, y0, x1, y1) of a picture that hold its ``painted`` pixels (H, W) and what is near; none overlap."""
    height, width = painted.shape
    boxes = []
    for x0, y0, x1, y1 in _hulls(painted):
        near = max(NEAREST_PX, round(NEAR * min(x1 - x0, y1 - y0)))
        boxes.append((max(0, x0 - near), max(0, y0 - near), min(width, x1 + near), min(height, y1 + near)))
    while True:
        covered = np.zeros((height, width), np.bool_)
        for x0, y0, x1, y1 in boxes:
            covered[y0:y1, x0:x1] = True
        joined = _hulls(covered)
        if len(joined) == len(boxes):
            return joined
        boxes = joined


def _hulls(mask: NDArray[np.bool_]) -> list[tuple[int, int, int, int]]:
    """Upright boxes (x0, y0, x1, y1) around the connected parts of a mask (H, W)."""
    stats = cv2.connectedComponentsWithStats(mask.astype(np.uint8))[2]
    return [(x, y, x + across, y + down) for x, y, across, down, _ in stats[1:].tolist()]
