"""Draws a close view of skin without a face: tone, creases, follicles, a few hairs and the light of a flash.

Shape letter: S, the side of the square picture.
"""

import cv2
import numpy as np

from inference.contract import Image
from inference.phantom.texture import clouds, fractal, relief, stroke

FAIR = (78.0, 11.0, 16.0)
"""CIELAB of the fairest skin drawn."""

DARK = (30.0, 12.0, 15.0)
"""CIELAB of the darkest skin drawn."""

FIELD_MM = 60.0
"""Width of skin that the picture shows, millimetres."""


def skin_patch(size: int, tone: float, seed: int) -> Image:
    """A photograph-like square of bare skin, uint8 RGB (S, S, 3); the same arguments give the same picture.

    Parameters
    ----------
    size
        S in pixels, at least 16; the picture shows :data:`FIELD_MM` of skin.
    tone
        0 (fair) to 1 (dark).
    seed
        Any integer.

    Raises
    ------
    ValueError
        ``size`` below 16 or ``tone`` outside [0, 1].
    """
    if size < 16 or not 0.0 <= tone <= 1.0:
        raise ValueError(f"size {size} must be at least 16 and tone {tone} in [0, 1]")
    rng = np.random.default_rng(seed)
    mm = size / FIELD_MM
    lab = np.empty((size, size, 3), np.float32)
    # Tone moves faster through the middle: brown skin is at its most saturated there.
    lab[:] = np.array(FAIR, np.float32) * (1 - tone) + np.array(DARK, np.float32) * tone
    lab[..., 2] += 7.0 * np.float32(np.sin(np.pi * tone))
    lab[..., 0] += 1.2 * fractal(rng, (size, size), 25 * mm, 3)
    lab[..., 1] += 1.1 * fractal(rng, (size, size), 9 * mm, 3)
    lab[..., 2] += 0.8 * fractal(rng, (size, size), 14 * mm, 3)
    # Primary lines: thin furrows along two crossing directions make the skin's rhomboid pattern.
    surface = np.zeros((size, size), np.float32)
    turn = rng.uniform(0, np.pi)
    ys, xs = np.mgrid[0:size, 0:size].astype(np.float32)
    for angle, depth in ((turn, 0.6), (turn + rng.uniform(0.9, 1.4), 0.4)):
        along = xs * np.float32(np.cos(angle)) + ys * np.float32(np.sin(angle))
        warp = 1.1 * mm * fractal(rng, (size, size), 7 * mm, 3)
        surface += np.float32(depth) * np.abs(np.sin((along + warp) * np.float32(np.pi / (1.6 * mm))))
    surface += 0.5 * fractal(rng, (size, size), 1.2 * mm, 2)
    lab[..., 0] += 2.2 * relief(surface, 1.4) + 0.7 * surface
    # Follicles: small dark dots at irregular distances.
    dots = clouds(rng, (size, size), 1.5 * mm)
    peaks = (dots == cv2.dilate(dots, np.ones((3, 3), np.uint8))) & (dots > 1.3)
    pits = cv2.GaussianBlur(peaks.astype(np.float32), (0, 0), max(0.28 * mm, 0.4))
    lab[..., 0] -= 4.0 * np.clip(pits / max(float(pits.max()), 1e-6), 0, 1)
    hairs = np.zeros((size, size), np.float32)
    comb = rng.uniform(0, 2 * np.pi)
    for _ in range(int(rng.integers(0, 26))):
        start = rng.uniform(0, size, 2)
        turns = comb + rng.normal(0, 0.25) + rng.normal(0, 0.06, 7).cumsum()
        steps = np.stack([np.cos(turns), np.sin(turns)], axis=1) * rng.uniform(0.6, 1.5) * mm
        stroke(hairs, np.concatenate([start[None], start + steps.cumsum(axis=0)]), 0.13 * mm, 1.0)
    lab[..., 0] -= rng.uniform(8, 22) * hairs
    # A flash off the axis: brighter on one side, falling off to the corners.
    cx, cy = rng.uniform(0.25, 0.75, 2) * size
    r2 = ((xs - cx) ** 2 + (ys - cy) ** 2) / np.float32(size * size)
    lab[..., 0] *= np.float32(1.04) - np.float32(rng.uniform(0.12, 0.32)) * r2
    lab[..., 0] += 0.5 * rng.standard_normal((size, size), dtype=np.float32)
    rgb = cv2.cvtColor(np.clip(lab, [0, -60, -60], [99, 60, 60]).astype(np.float32), cv2.COLOR_Lab2RGB)
    return np.asarray(np.rint(np.clip(rgb, 0.0, 1.0) * 255.0), np.uint8)
