"""How each of the five diseases looks: from skin and a random source to a layer of cover and colour.

Sizes are in millimetres of real skin (``canvas.mm`` pixels each), taken from the textbook ranges and, for the
smallest marks, from their upper end, so that they survive the resolution of a segmentation.
Shape letters: H × W.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from inference.phantom.canvas import Canvas, Layer, everywhere
from inference.phantom.texture import Field, clouds, fractal, ramp, relief, stroke, walk, window

Rng = np.random.Generator
Look = Callable[[Canvas, Rng, float], Layer]


def _sites(canvas: Canvas, rng: Rng, count: int, likelihood: Field | None = None) -> NDArray[np.float64]:
    """Points (n ≤ count, 2) on the skin, x and y, drawn by ``likelihood`` (H, W)."""
    weight = canvas.room if likelihood is None else canvas.room * likelihood
    running = np.cumsum(weight, dtype=np.float64)
    if not running[-1] > 0.0:
        return np.zeros((0, 2))
    flat = np.searchsorted(running, rng.uniform(0.0, running[-1], count)).clip(0, weight.size - 1)
    return np.stack([flat % weight.shape[1], flat // weight.shape[1]], axis=1).astype(np.float64)


def _hills(canvas: Canvas, hills: list[tuple[float, float, float, float]]) -> Field:
    """Largest of several Gaussian hills (x, y, width, height in frame units), in [0, 1], (H, W)."""
    x, y = canvas.frame.coordinates(*canvas.shape)
    least = np.full(canvas.shape, 50.0, np.float32)
    for cx, cy, wide, tall in hills:
        np.minimum(least, ((x - cx) / wide) ** 2 + ((y - cy) / tall) ** 2, out=least)
    return np.asarray(np.exp(-least), np.float32)


def _patches(
    canvas: Canvas, rng: Rng, sites: NDArray[np.float64], radii_px: NDArray[np.float64], lumps: float
) -> Field:
    """Signed depth in pixels (H, W) of rounded, irregular patches: positive inside."""
    height, width = canvas.shape
    depth = np.full((height, width), -1e3, np.float32)
    for (x, y), radius in zip(sites, radii_px, strict=True):
        at = window(canvas.shape, x, y, 2.2 * radius)
        if at is None:
            continue
        ys = np.arange(at[0].start, at[0].stop, dtype=np.float32)[:, None] - np.float32(y)
        xs = np.arange(at[1].start, at[1].stop, dtype=np.float32)[None] - np.float32(x)
        turn, squeeze = rng.uniform(0, np.pi), rng.uniform(0.65, 1.0)
        u = xs * np.float32(np.cos(turn)) + ys * np.float32(np.sin(turn))
        v = (ys * np.float32(np.cos(turn)) - xs * np.float32(np.sin(turn))) / np.float32(squeeze)
        np.maximum(depth[at], radius - np.sqrt(u * u + v * v), out=depth[at])
    typical = float(np.mean(radii_px)) if len(radii_px) else 1.0
    return np.asarray(depth + lumps * typical * fractal(rng, canvas.shape, typical * 1.3), np.float32)


def psoriasis(canvas: Canvas, rng: Rng, severity: float) -> Layer:
    """Well-bordered salmon-red plaques under silvery-white, flaking scale."""
    height, width = canvas.shape
    mm, layer = canvas.mm, Layer(canvas.shape)
    count = int(rng.integers(2, 4 + round(5 * severity)))
    radii = rng.uniform(6.0, 10.0 + 13.0 * severity, count) * mm
    sites = _sites(canvas, rng, count)
    depth = _patches(canvas, rng, sites, radii[: len(sites)], 0.13)
    plaque = ramp(depth, -0.4 * mm, 0.5 * mm)
    rim = plaque * (1.0 - ramp(depth, 0.8 * mm, 3.0 * mm))
    red = canvas.erythema(rng.uniform(0.95, 1.3))
    colour = np.asarray(red * (1.0 + 0.25 * rim[..., None]), np.float32)
    colour += (1.6 * clouds(rng, canvas.shape, 2.5 * mm))[..., None] * np.array([1, 0.4, 0.2], np.float32)
    layer.blend(everywhere(), plaque, colour)
    # Scale: plates that lift at their edges, thick in the plaque's middle, whiter than any skin around.
    plates = fractal(rng, canvas.shape, 3.6 * mm, 4, 0.75)
    thick = ramp(depth, 0.4 * mm, 4.0 * mm) * np.float32(0.7 + 0.5 * severity)
    scale = ramp(np.asarray(plates + 1.5 * thick, np.float32), 0.75, 1.55) * thick.clip(0, 1)
    light = relief(plates, 2.2) * 9.0
    silver = np.empty((height, width, 3), np.float32)
    # Brighter than the skin underneath, whatever its tone, and almost without hue.
    silver[..., 0] = 13.0 + 9.0 * canvas.darkness + light + 2.5 * plates.clip(-2, 2)
    silver[..., 1] = 1.5 - 0.72 * canvas.lab[..., 1] + 1.0
    silver[..., 2] = 1.0 - 0.72 * canvas.lab[..., 2]
    layer.blend(everywhere(), np.asarray(scale * 0.9 * plaque, np.float32), silver)
    layer.cover = np.asarray(plaque, np.float32)
    return layer


def atopic_dermatitis(canvas: Canvas, rng: Rng, severity: float) -> Layer:
    """Ill-defined dry erythema with fine scaling, papules and the scratches of itching."""
    height, width = canvas.shape
    mm, layer = canvas.mm, Layer(canvas.shape)
    count = int(rng.integers(2, 4 + round(3 * severity)))
    flexures = _hills(
        canvas, [(-0.75, 0.6, 0.6, 0.7), (0.75, 0.6, 0.6, 0.7), (0, -0.55, 0.9, 0.4), (0, 1.35, 0.6, 0.4)]
    )
    sites = _sites(canvas, rng, count, flexures + np.float32(0.05))
    radii = rng.uniform(11.0, 16.0 + 12.0 * severity, len(sites)) * mm
    depth = _patches(canvas, rng, sites, radii, 0.35)
    patch = ramp(depth, -2.5 * mm, 9.0 * mm)
    grain = fractal(rng, canvas.shape, 1.8 * mm, 3, 0.85)
    blotch = fractal(rng, canvas.shape, 9.0 * mm, 3)
    papules = ramp(clouds(rng, canvas.shape, 2.4 * mm), 1.1, 1.7)
    colour = np.empty((height, width, 3), np.float32)
    colour[:] = canvas.erythema(rng.uniform(0.75, 1.05))
    colour *= (1.0 + 0.18 * blotch + 0.45 * papules)[..., None]
    # Dry skin: a dull, powdery grain and lines of thickened skin crossing each other.
    powder = ramp(grain, 0.55, 1.5)
    colour[..., 0] += 9.0 * powder + 4.0 * relief(grain, 1.5)
    colour[..., 1] -= 8.0 * powder
    colour[..., 2] -= 2.0 * powder
    layer.blend(everywhere(), patch, colour)
    scratches = np.zeros((height, width), np.float32)
    for x, y in _sites(canvas, rng, int(rng.integers(1, 3 + round(3 * severity))), patch):
        along = rng.uniform(0, 2 * np.pi)
        across = np.array([-np.sin(along), np.cos(along)])
        for line in range(int(rng.integers(2, 5))):
            start = np.array([x, y]) + across * line * rng.uniform(1.8, 3.0) * mm + rng.normal(0, 1.5 * mm, 2)
            turns = along + rng.normal(0, 0.09, 8).cumsum()
            steps = np.stack([np.cos(turns), np.sin(turns)], axis=1) * rng.uniform(0.6, 1.7) * mm
            stroke(
                scratches,
                np.concatenate([start[None], start + steps.cumsum(axis=0)]),
                rng.uniform(0.55, 1.0) * mm,
                1.0,
            )
    broken = scratches * ramp(clouds(rng, canvas.shape, 2.0 * mm), -1.1, 0.0)
    crust = np.array([-17.0 + 5 * canvas.darkness, 17.0 - 5 * canvas.darkness, 5.0], np.float32)
    layer.blend(everywhere(), np.asarray(0.9 * broken * ramp(depth, -6 * mm, 0), np.float32), crust)
    return layer


@dataclass(frozen=True, slots=True)
class _Mark:
    """A round mark: centre and radius in pixels."""

    x: float
    y: float
    radius: float

    def scaled(self, factor: float, least_px: float = 0.0) -> "_Mark":
        """The same place, another size."""
        return _Mark(self.x, self.y, max(self.radius * factor, least_px))

    def polar(self, at: tuple[slice, slice]) -> tuple[Field, Field]:
        """Distances x and y from the centre, in radii, over a window."""
        ys = np.arange(at[0].start, at[0].stop, dtype=np.float32)[:, None] - np.float32(self.y)
        xs = np.arange(at[1].start, at[1].stop, dtype=np.float32)[None] - np.float32(self.x)
        return xs / np.float32(self.radius), ys / np.float32(self.radius)


def _dome(layer: Layer, canvas: Canvas, mark: _Mark, red: float, raised: float) -> None:
    """A raised inflamed papule with its halo: redder to the middle, lit from the upper left."""
    at = window(canvas.shape, mark.x, mark.y, 2.0 * mark.radius)
    if at is None:
        return
    xs, ys = mark.polar(at)
    r2 = xs * xs + ys * ys
    halo = ramp(-r2, -2.6, -0.5)
    bump = np.exp(-1.4 * r2)
    shift = canvas.erythema(red) * (0.6 + 0.55 * bump[..., None])
    shift[..., 0] -= raised * bump * (xs + ys) * 1.6
    layer.blend(at, halo, np.asarray(shift, np.float32))


def _spot(layer: Layer, canvas: Canvas, mark: _Mark, shift: tuple[float, float, float]) -> None:
    """A small round mark with a soft edge of half a pixel."""
    at = window(canvas.shape, mark.x, mark.y, mark.radius + 2)
    if at is None:
        return
    xs, ys = mark.polar(at)
    disc = np.clip(mark.radius * (1.0 - np.sqrt(xs * xs + ys * ys)) + 0.5, 0.0, 1.0)
    layer.blend(at, np.asarray(disc, np.float32), np.array(shift, np.float32))


def acne(canvas: Canvas, rng: Rng, severity: float) -> Layer:
    """Papules, pustules with white-yellow tops, nodules, open and closed comedones."""
    mm, layer = canvas.mm, Layer(canvas.shape)
    zones = _hills(
        canvas, [(-0.7, 0.7, 0.5, 0.6), (0.7, 0.7, 0.5, 0.6), (0, -0.65, 0.8, 0.35), (0, 1.45, 0.55, 0.35)]
    )
    clumps = ramp(clouds(rng, canvas.shape, 22 * mm), -0.6, 1.2) + np.float32(0.1)
    sites = _sites(
        canvas, rng, int(12 + 44 * severity * rng.uniform(0.7, 1.3)), (zones + np.float32(0.08)) * clumps
    )
    dark = canvas.darkness
    for (x, y), kind in zip(sites, rng.choice(5, len(sites), p=[0.42, 0.24, 0.08, 0.16, 0.10]), strict=True):
        mark = _Mark(x, y, mm * rng.uniform(1.5, 2.7))
        if kind == 0:
            _dome(layer, canvas, mark, rng.uniform(0.9, 1.3), 9.0)
        elif kind == 1:
            _dome(layer, canvas, mark.scaled(1.15), rng.uniform(1.0, 1.35), 9.0)
            top = mark.scaled(0.42, 0.7)
            _spot(layer, canvas, top, (13.0 + 12 * dark, -9.0, 9.0))
            shine = _Mark(x - 0.3 * top.radius, y - 0.3 * top.radius, 0.35 * top.radius)
            _spot(layer, canvas, shine, (24.0 + 10 * dark, -12.0, -1.0))
        elif kind == 2:
            _dome(layer, canvas, mark.scaled(2.0), rng.uniform(1.0, 1.3), 13.0)
        elif kind == 3:
            _spot(layer, canvas, mark.scaled(0.45, 0.9), (4.0, 6.0, 2.0))
            _spot(layer, canvas, mark.scaled(0.28, 0.6), (-26.0 + 12 * dark, 0.0, -4.0))
        else:
            _dome(layer, canvas, mark.scaled(0.8), 0.35, 12.0)
    return layer


def _vessels(canvas: Canvas, rng: Rng, count: int, likelihood: Field) -> Field:
    """Telangiectasia: thin, wandering, branching vessels, (H, W) in [0, 1]."""
    mm = canvas.mm
    drawn = np.zeros(canvas.shape, np.float32)
    for site in _sites(canvas, rng, count, likelihood):
        angle, length = rng.uniform(0, 2 * np.pi), rng.uniform(6.0, 16.0) * mm
        trunk = walk(rng, site, angle, length / 9, 9)
        # Vessels are a few tenths of a millimetre wide; below half a pixel nobody would see them.
        stroke(drawn, trunk, max(rng.uniform(0.18, 0.42) * mm, 0.8), 1.0)
        for joint in rng.choice(np.arange(2, 8), int(rng.integers(1, 3)), replace=False):
            fork = angle + rng.choice([-1, 1]) * rng.uniform(0.5, 1.1)
            stroke(
                drawn,
                walk(rng, trunk[joint], fork, length / 12, 5),
                max(rng.uniform(0.12, 0.3) * mm, 0.5),
                0.8,
            )
    return drawn


def rosacea(canvas: Canvas, rng: Rng, severity: float) -> Layer:
    """Centro-facial flush that spares the eyes, with telangiectasia and a few papules."""
    height, width = canvas.shape
    mm, layer = canvas.mm, Layer(canvas.shape)
    hills = [(-0.62, 0.6, 0.42, 0.36), (0.62, 0.6, 0.42, 0.36), (0.0, 0.55, 0.24, 0.34)]
    if rng.random() < 0.35 + 0.4 * severity:
        hills.append((0.0, 1.42, 0.28, 0.2))
    if rng.random() < 0.25 + 0.5 * severity:
        hills.append((0.0, -0.5, 0.45, 0.25))
    grow = 0.75 + 0.5 * severity
    hills = [
        (x, y, a * grow * rng.uniform(0.85, 1.15), b * grow * rng.uniform(0.85, 1.15)) for x, y, a, b in hills
    ]
    if canvas.frame.face:
        flush = _hills(canvas, hills) + 0.11 * fractal(rng, canvas.shape, 16 * mm, 4)
        patch = ramp(np.asarray(flush, np.float32), 0.22, 0.62)
    else:
        patch = ramp(_areas(canvas, rng, 10.0 + 14.0 * severity), -2.0 * mm, 6.0 * mm)
    blotch = fractal(rng, canvas.shape, 5.0 * mm, 3, 0.8)
    colour = np.empty((height, width, 3), np.float32)
    colour[:] = canvas.erythema(rng.uniform(0.8, 1.05) + 0.25 * severity)
    colour *= (1.0 + 0.13 * blotch)[..., None]
    layer.blend(everywhere(), patch, colour)
    vessels = _vessels(canvas, rng, round(18 + 30 * severity), patch**2)
    purple = canvas.erythema(2.2) + np.array([-3.0, 2.0, -7.0], np.float32)
    layer.blend(everywhere(), np.asarray(0.9 * vessels * patch, np.float32), purple)
    for x, y in _sites(canvas, rng, int(rng.integers(2, 6 + round(14 * severity))), patch**2):
        mark = _Mark(x, y, rng.uniform(1.2, 2.0) * mm)
        _dome(layer, canvas, mark, 1.45, 7.0)
        if rng.random() < 0.2:
            _spot(layer, canvas, mark.scaled(0.4, 0.6), (10.0, -6.0, 8.0))
    return layer


def seborrheic_dermatitis(canvas: Canvas, rng: Rng, severity: float) -> Layer:
    """Yellowish, greasy scale on erythema at brows, glabella, nasolabial folds, sometimes the hairline."""
    height, width = canvas.shape
    mm, layer = canvas.mm, Layer(canvas.shape)
    bed = (
        _folds(canvas, rng, severity)
        if canvas.frame.face
        else ramp(_areas(canvas, rng, 12.0), -6 * mm, 8 * mm)
    )
    ragged = 0.16 * fractal(rng, canvas.shape, 7.0 * mm, 3) * ramp(bed, 0.0, 0.3)
    edge = np.asarray(bed + ragged, np.float32)
    patch = ramp(edge, 0.30, 0.66)
    colour = np.empty((height, width, 3), np.float32)
    colour[:] = canvas.erythema(rng.uniform(0.85, 1.1)) + np.array([0.0, -2.0, 5.0], np.float32)
    colour *= (1.0 + 0.15 * clouds(rng, canvas.shape, 4.0 * mm))[..., None]
    layer.blend(everywhere(), patch, colour)
    # Greasy scale: coarse, dull yellow flakes in heaps, and a little wet shine on their upper edges.
    flakes = fractal(rng, canvas.shape, 4.6 * mm, 3, 0.6)
    heaps = clouds(rng, canvas.shape, 11.0 * mm)
    scale = ramp(np.asarray(flakes + 0.6 * heaps + 0.9 * edge, np.float32), 0.75, 1.35) * patch
    lit = relief(flakes, 1.6)
    shine = ramp(lit, 0.45, 0.9)
    yellow = np.empty((height, width, 3), np.float32)
    yellow[..., 0] = 5.0 + 5.0 * canvas.darkness + 5.0 * lit + 6.0 * shine
    yellow[..., 1] = 2.0 - 0.3 * canvas.lab[..., 1]
    yellow[..., 2] = 11.0 - 6.0 * shine - 0.12 * canvas.lab[..., 2]
    layer.blend(everywhere(), np.asarray(0.85 * scale, np.float32), yellow)
    return layer


def _areas(canvas: Canvas, rng: Rng, radius_mm: float) -> Field:
    """Depth in pixels (H, W) of one to three patches anywhere on the skin: there is no face to go by."""
    sites = _sites(canvas, rng, int(rng.integers(1, 4)))
    return _patches(canvas, rng, sites, rng.uniform(0.6, 1.2, len(sites)) * radius_mm * canvas.mm, 0.25)


def _folds(canvas: Canvas, rng: Rng, severity: float) -> Field:
    """Where seborrhoeic dermatitis sits on a face, (H, W) in [0, 1]."""
    mm, unit = canvas.mm, canvas.frame.unit_px
    bed = np.zeros(canvas.shape, np.float32)
    for side in (-1.0, 1.0):
        fold = [(0.22, 0.5), (0.32, 0.66), (0.42, 0.8), (0.52, 0.98)]
        path = np.array([canvas.frame.point(side * x, y) for x, y in fold]) + rng.normal(0, 1.2 * mm, 2)
        _swath(bed, path, rng.uniform(0.10, 0.14) * unit * (0.8 + 0.5 * severity))
        brow = [(0.14, -0.24), (0.42, -0.33), (0.72, -0.25)]
        path = np.array([canvas.frame.point(side * x, y) for x, y in brow]) + rng.normal(0, 1.0 * mm, 2)
        _swath(bed, path, rng.uniform(0.10, 0.15) * unit * (0.8 + 0.5 * severity))
    _swath(bed, np.array([canvas.frame.point(-0.14, -0.22), canvas.frame.point(0.14, -0.22)]), 0.12 * unit)
    if rng.random() < 0.4 * severity + 0.2:
        hairline = [canvas.frame.point(x, -0.95 + 0.25 * x * x) for x in np.linspace(-0.8, 0.8, 7)]
        _swath(bed, np.array(hairline), 0.13 * unit)
    if rng.random() < 0.5 * severity:
        _swath(bed, np.array([canvas.frame.point(-0.25, 1.45), canvas.frame.point(0.25, 1.45)]), 0.12 * unit)
    return bed


def _swath(bed: Field, path: NDArray[np.float64], radius_px: float) -> None:
    """Raises ``bed`` (H, W) in place around a polyline: 1 on it, falling to 0 at twice ``radius_px``."""
    lows, highs = path.min(axis=0), path.max(axis=0)
    centre, reach = (lows + highs) / 2, float((highs - lows).max()) / 2 + 2 * radius_px
    at = window((bed.shape[0], bed.shape[1]), centre[0], centre[1], reach)
    if at is None:
        return
    ys = np.arange(at[0].start, at[0].stop, dtype=np.float32)[:, None]
    xs = np.arange(at[1].start, at[1].stop, dtype=np.float32)[None]
    nearest = np.full(bed[at].shape, np.inf, np.float32)
    for a, b in pairwise(path):
        ab = b - a
        t = np.clip(((xs - a[0]) * ab[0] + (ys - a[1]) * ab[1]) / max(float(ab @ ab), 1e-6), 0.0, 1.0)
        np.minimum(nearest, (xs - a[0] - t * ab[0]) ** 2 + (ys - a[1] - t * ab[1]) ** 2, out=nearest)
    hill = np.clip(1.0 - np.sqrt(nearest) / np.float32(2 * radius_px), 0.0, 1.0)
    np.maximum(bed[at], hill, out=bed[at])


LOOKS: dict[str, Look] = {
    "psoriasis": psoriasis,
    "atopic dermatitis": atopic_dermatitis,
    "acne": acne,
    "rosacea": rosacea,
    "seborrheic dermatitis": seborrheic_dermatitis,
}
"""The painter of each of :data:`inference.contract.DISEASES`."""
