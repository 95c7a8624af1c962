"""Where on a face a lesion belongs: a frame of reference from whatever regions are known.

Shape letters: H × W. The frame's origin lies between the eyes, its unit is the distance from there to the
mouth, x points to the picture's right of an upright face and y to the chin.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from inference.contract import Mask
from inference.phantom.texture import Field

EYES_TO_MOUTH_MM = 68.0
"""Distance from the line of the eyes to the mouth of an adult, millimetres."""

SKIN_EXTENT_MM = 135.0
"""Square root of the visible area of an adult's face, millimetres."""


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """A face's own coordinates within a picture.

    Attributes
    ----------
    origin
        float64 (2,): the point between the eyes, x and y in pixels.
    down
        float64 (2,): unit vector from there to the mouth.
    unit_px
        Length of the frame's unit in pixels.
    pixels_per_mm
        Scale of the picture.
    face
        Whether there is a face at all; a close view of skin has none, and its frame only a centre.
    """

    origin: NDArray[np.float64]
    down: NDArray[np.float64]
    unit_px: float
    pixels_per_mm: float
    face: bool = True

    def moved(self, x: int, y: int) -> "Frame":
        """The same frame in a part of the picture that begins at ``x``, ``y``."""
        return replace(self, origin=self.origin - np.array([x, y], np.float64))

    def point(self, x: float, y: float) -> NDArray[np.float64]:
        """Pixel position (2,) of a point of the frame."""
        right = np.array([self.down[1], -self.down[0]])
        return np.asarray(self.origin + self.unit_px * (x * right + y * self.down), np.float64)

    def coordinates(self, height: int, width: int) -> tuple[Field, Field]:
        """The frame's x and y, each (H, W), of every pixel of a picture."""
        px = np.arange(width, dtype=np.float32)[None] - np.float32(self.origin[0])
        py = np.arange(height, dtype=np.float32)[:, None] - np.float32(self.origin[1])
        dx, dy = (np.float32(v / self.unit_px) for v in self.down)
        return px * dy - py * dx, px * dx + py * dy


def _centre(mask: Mask | None) -> NDArray[np.float64] | None:
    if mask is None:
        return None
    ys, xs = np.nonzero(mask)
    return np.array([xs.mean(), ys.mean()]) if xs.size else None


def locate(skin: Mask, regions: Mapping[str, Mask] | None, pixels_per_mm: float | None) -> Frame:
    """The frame of the face shown, or of the skin's extent where no eyes and mouth are known.

    Parameters
    ----------
    skin
        bool (H, W), at least one pixel True.
    regions
        Masks (H, W) by name; ``"eye"`` and ``"mouth"`` are used.
    pixels_per_mm
        Scale, where it is known; else estimated from the face or from the extent of the skin.
    """
    known = regions or {}
    eyes, mouth = _centre(known.get("eye")), _centre(known.get("mouth"))
    if eyes is not None and mouth is not None and np.hypot(*(mouth - eyes)) > 4.0:
        unit = float(np.hypot(*(mouth - eyes)))
        return Frame(eyes, (mouth - eyes) / unit, unit, pixels_per_mm or unit / EYES_TO_MOUTH_MM)
    ys, xs = np.nonzero(skin)
    top, bottom = np.percentile(ys, [2, 98])
    unit = max(float(bottom - top) * 0.36, 1.0)
    origin = np.array([float(np.median(xs)), top + 0.42 * (bottom - top)])
    scale = pixels_per_mm or float(np.sqrt(xs.size)) / SKIN_EXTENT_MM
    # A known scale at which the skin is smaller than a face tells that no whole face is shown.
    face = float(np.sqrt(xs.size)) / scale > 0.75 * SKIN_EXTENT_MM
    return Frame(origin, np.array([0.0, 1.0]), unit, scale, face)
