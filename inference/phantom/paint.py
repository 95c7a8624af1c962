"""Paints one disease onto skin, and says exactly which pixels it touched.

Shape letters: H × W native size. Images are uint8 RGB, masks bool.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from inference.contract import Image, Mask
from inference.phantom.anatomy import Frame, locate
from inference.phantom.canvas import Canvas, fade_from_border
from inference.phantom.looks import LOOKS

VISIBLE = 0.08
"""Cover below which a lesion cannot be told from skin; such pixels stay untouched and are not lesion."""

MARGIN_MM = 6.0
"""Skin border that is worked on beyond the skin itself, so that marks near it are cut and not missed."""


@dataclass(frozen=True, slots=True, eq=False)
class Painted:
    """A picture with a lesion whose every pixel is known.

    Attributes
    ----------
    image
        uint8 RGB (H, W, 3); equals the original bit for bit outside ``lesion``.
    lesion
        bool (H, W).
    """

    image: Image
    lesion: Mask


def paint(  # noqa: PLR0913 - a picture, what to paint on it, and what is known about it
    image: Image,
    skin: Mask,
    disease: str,
    seed: int,
    *,
    regions: Mapping[str, Mask] | None = None,
    severity: float = 0.5,
    pixels_per_mm: float | None = None,
) -> Painted:
    """Paints ``disease`` onto the skin; the same arguments give the same picture.

    Parameters
    ----------
    image
        uint8 RGB (H, W, 3).
    skin
        bool (H, W): where lesions may be.
    disease
        One of :data:`inference.contract.DISEASES`.
    seed
        Any integer; chooses sites, shapes and colours.
    regions
        Masks (H, W) of ``"brow"``, ``"eye"``, ``"nose"`` and ``"mouth"``: they orient the face, so that a
        disease is found where it belongs. Without them an upright face filling ``skin`` is assumed, or no
        face where ``pixels_per_mm`` tells that the skin is too small for one.
    severity
        In [0, 1]: number, extent and colour of the lesions.
    pixels_per_mm
        Scale; estimated from the face or the extent of the skin where ``None``.

    Raises
    ------
    ValueError
        An unknown disease, a severity outside [0, 1], or shapes that do not agree.
    """
    if disease not in LOOKS:
        raise ValueError(f"unknown disease {disease!r}; known are {', '.join(LOOKS)}")
    if not 0.0 <= severity <= 1.0:
        raise ValueError(f"severity {severity} is outside [0, 1]")
    if image.shape != (*skin.shape, 3) or image.dtype != np.uint8 or skin.dtype != np.bool_:
        raise ValueError("image must be uint8 (H, W, 3) and skin bool (H, W)")
    whole = np.zeros(skin.shape, np.bool_)
    if not skin.any():
        return Painted(image.copy(), whole)
    frame = locate(skin, regions, pixels_per_mm)
    margin = int(MARGIN_MM * frame.pixels_per_mm) + 1
    rows, columns = (np.flatnonzero(skin.any(axis=axis)) for axis in (1, 0))
    y0, x0 = max(int(rows[0]) - margin, 0), max(int(columns[0]) - margin, 0)
    at = (slice(y0, int(rows[-1]) + margin + 1), slice(x0, int(columns[-1]) + margin + 1))
    canvas = _canvas(image[at], skin[at], frame.moved(x0, y0))
    layer = LOOKS[disease](canvas, np.random.default_rng(seed), severity)
    cover = layer.cover * canvas.room
    # The visible threshold is taken off first, so that the cover starts from nothing at the lesion's edge.
    cover = np.clip((cover - VISIBLE) / (1.0 - VISIBLE), 0.0, 1.0)
    lesion = (cover > VISIBLE) & skin[at]
    lab = canvas.lab + layer.shift * cover[..., None]
    lab[..., 0] = np.clip(lab[..., 0], 0.0, 99.0)
    rgb = cv2.cvtColor(lab, cv2.COLOR_Lab2RGB)
    painted = image.copy()
    painted[at][lesion] = np.rint(np.clip(rgb, 0.0, 1.0) * 255.0).astype(np.uint8)[lesion]
    whole[at] = lesion
    return Painted(painted, whole)


def _canvas(image: Image, skin: Mask, frame: Frame) -> Canvas:
    lab = cv2.cvtColor(image.astype(np.float32) / 255.0, cv2.COLOR_RGB2Lab)
    lightness = float(np.median(lab[..., 0][skin]))
    room = fade_from_border(skin, 1.2 * frame.pixels_per_mm)
    # Hair over the skin is not skin: what is much darker than the skin around carries no lesion.
    soft = cv2.blur(lab[..., 0], (2 * round(frame.pixels_per_mm) + 1,) * 2)
    room = room * np.clip((soft - (lightness - 34.0)) / 10.0, 0.0, 1.0)
    darkness = float(np.clip((72.0 - lightness) / 45.0, 0.0, 1.0))
    return Canvas(np.asarray(lab, np.float32), np.asarray(room, np.float32), frame, darkness)
