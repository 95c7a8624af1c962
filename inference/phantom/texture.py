"""Random fields and marks of which lesions and skin are made.

Shape letters: H × W. Fields are float32; lengths are in pixels, x before y.
Noise has mean 0 and deviation about 1.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]


def clouds(rng: np.random.Generator, shape: tuple[int, int], wavelength_px: float) -> Field:
    """Smooth noise (H, W) whose blobs are about ``wavelength_px`` wide; mean 0, deviation about 1."""
    height, width = shape
    step = max(wavelength_px / 2.0, 1.0)
    rows, columns = int(height / step) + 4, int(width / step) + 4
    grid = rng.standard_normal((rows, columns), dtype=np.float32)
    if step <= 1.0:
        return grid[:height, :width]
    # One affine call places the grid at a random phase, so that no cell border is ever at a fixed place.
    phase = rng.uniform(0.5, 1.5, 2)
    place = np.array([[1 / step, 0, phase[0]], [0, 1 / step, phase[1]]], np.float64)
    field = cv2.warpAffine(grid, place, (width, height), flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP)
    return np.asarray(field * np.float32(1.5), np.float32)


def fractal(
    rng: np.random.Generator,
    shape: tuple[int, int],
    wavelength_px: float,
    octaves: int = 3,
    decay: float = 0.6,
) -> Field:
    """Noise (H, W) of several octaves, each half as wide and ``decay`` as strong as the one before."""
    total = np.zeros(shape, np.float32)
    weight, power = 1.0, 0.0
    for octave in range(octaves):
        total += np.float32(weight) * clouds(rng, shape, wavelength_px / 2**octave)
        power += weight**2
        weight *= decay
    return np.asarray(total / np.float32(power**0.5), np.float32)


def ramp(field: Field, low: float, high: float) -> Field:
    """0 below ``low``, 1 above ``high``, a smooth step between."""
    t = np.clip((field - np.float32(low)) / np.float32(high - low), 0.0, 1.0)
    return np.asarray(t * t * (3.0 - 2.0 * t), np.float32)


def relief(height_map: Field, strength: float) -> Field:
    """Shading (H, W) in about [-1, 1] of a surface lit from the upper left."""
    dx = cv2.Sobel(height_map, cv2.CV_32F, 1, 0, ksize=3, scale=0.125)
    dy = cv2.Sobel(height_map, cv2.CV_32F, 0, 1, ksize=3, scale=0.125)
    return np.asarray(np.clip(np.float32(strength) * (dx + dy), -1.0, 1.0), np.float32)


def walk(
    rng: np.random.Generator, start: NDArray[np.float64], angle: float, step_px: float, steps: int
) -> NDArray[np.float64]:
    """A wandering line (steps + 1, 2) from ``start``: the path of a small vessel or a scratch."""
    turns = rng.normal(0.0, 0.35, steps).cumsum() + angle
    moves = np.stack([np.cos(turns), np.sin(turns)], axis=1) * step_px
    return np.concatenate([start[None], start + moves.cumsum(axis=0)])


def stroke(canvas: Field, path: NDArray[np.float64], thickness_px: float, value: float) -> None:
    """Draws an antialiased line into ``canvas`` (H, W) in place; hair-thin ones fainter, not thicker."""
    strength = value * min(thickness_px, 1.0)
    points = np.round(path * 16).astype(np.int32).reshape(-1, 1, 2)
    layer = np.zeros(canvas.shape, np.uint8)
    cv2.polylines(layer, [points], False, 255, max(1, round(thickness_px)), cv2.LINE_AA, 4)
    np.maximum(canvas, layer * np.float32(strength / 255), out=canvas)


def window(shape: tuple[int, int], x: float, y: float, reach_px: float) -> tuple[slice, slice] | None:
    """The part of an (H, W) field within ``reach_px`` of a point; ``None`` if nothing of it is inside."""
    height, width = shape
    x0, x1 = max(int(x - reach_px), 0), min(int(x + reach_px) + 2, width)
    y0, y1 = max(int(y - reach_px), 0), min(int(y + reach_px) + 2, height)
    return (slice(y0, y1), slice(x0, x1)) if x0 < x1 and y0 < y1 else None
