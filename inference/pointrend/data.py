"""Training samples: scenes seen at any distance, in any turn, through any camera.

Sample ``i`` of a run is a pure function of the run's seed and ``i``, so that a resumed run goes on exactly.
Shape letter: S, the side of a sample.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from inference.contract import DISEASES, Image
from inference.pointrend.letterbox import FILL
from inference.pointrend.scenes import Labels, Scene, bare_skin, diseased, nothing

Rng = np.random.Generator

_NOISE = np.random.default_rng(0).standard_normal(1 << 19, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Mix:
    """How often each kind of sample is drawn.

    Attributes
    ----------
    negatives
        Share of scenes without a face: bare skin, and nothing at all.
    close_ups
        Share of the portraits' samples at 1.5–6×, in any turn.
    faces
        Share of the portraits' samples that show the face alone, mostly upright, as a second look does.
    healthy
        Share of portraits without a lesion.
    views
        Samples drawn from one painted scene.
    """

    negatives: float = 0.12
    close_ups: float = 0.5
    faces: float = 0.3
    healthy: float = 0.22
    views: int = 3


@dataclass(frozen=True, slots=True)
class Stance:
    """Where a scene is seen from.

    Attributes
    ----------
    zoom
        How many times nearer than the whole picture.
    turn
        Degrees.
    centre
        What lies in the middle, x and y in pixels; without it, anywhere that the view overlaps the picture well.
    """

    zoom: float
    turn: float
    centre: tuple[float, float] | None = None


class Samples:
    """An endless, repeatable sequence of training samples.

    Parameters
    ----------
    portraits
        Scenes without lesions.
    seed
        Of the run.
    size_px
        S for each index, a multiple of 32.
    mix
        Shares of the kinds.
    """

    def __init__(
        self, portraits: Sequence[Scene], seed: int, size_px: Callable[[int], int], mix: Mix | None = None
    ) -> None:
        self.portraits = portraits
        self.seed = seed
        self.size_px = size_px
        self.mix = mix or Mix()
        self._scene = lru_cache(maxsize=2)(self._draw)

    def _draw(self, number: int) -> tuple[Scene, bool]:
        """Scene ``number``, and whether it is a portrait."""
        rng = np.random.default_rng([self.seed, number, 0])
        seed = int(rng.integers(2**31))
        if rng.random() < self.mix.negatives:
            scene = bare_skin(320, seed) if rng.random() < 0.65 else nothing(320, seed)
            return scene, False
        scene = self.portraits[int(rng.integers(len(self.portraits)))]
        if rng.random() >= self.mix.healthy:
            scene = diseased(scene, DISEASES[int(rng.integers(len(DISEASES)))], seed)
        return scene, True

    def __getitem__(self, index: int) -> tuple[Image, Labels]:
        """Sample ``index``: uint8 RGB (S, S, 3) and labels (S, S)."""
        scene, portrait = self._scene(index // self.mix.views)
        rng = np.random.default_rng([self.seed, index, 1])
        view = crop(scene, rng, self.size_px(index), self._stance(scene, rng) if portrait else _anyhow(rng))
        return photograph(view.image, rng), view.labels

    def _stance(self, scene: Scene, rng: Rng) -> Stance:
        """Where a portrait is seen from."""
        chance, anyhow = rng.random(), float(rng.uniform(0, 360))
        if chance < self.mix.close_ups:
            return Stance(float(np.exp(rng.uniform(np.log(1.5), np.log(6.0)))), anyhow, _on_face(scene, rng))
        if chance < self.mix.close_ups + self.mix.faces:
            ys, xs = np.nonzero(scene.labels)
            side = np.sqrt(len(ys)) * rng.uniform(1.25, 2.2)
            turn = float(rng.normal(0, 9)) if rng.random() < 0.8 else anyhow
            centre = (xs.mean() + 0.08 * side * rng.normal(), ys.mean() + 0.08 * side * rng.normal())
            return Stance(float(max(scene.labels.shape) / side), turn, centre)
        turn = float(rng.normal(0, 12)) if rng.random() < 0.5 else anyhow
        return Stance(float(np.exp(rng.uniform(np.log(0.75), np.log(1.7)))), turn)


def _anyhow(rng: Rng) -> Stance:
    return Stance(float(rng.uniform(0.9, 2.2)), float(rng.uniform(0, 360)))


def _on_face(scene: Scene, rng: Rng) -> tuple[float, float]:
    """A point to look at: a part of the face, anywhere on it, or (rarely) anywhere in the picture."""
    chance = rng.random()
    if chance < 0.45:
        parts = np.unique(scene.labels)
        part = rng.choice(parts[parts > 0])
        ys, xs = np.nonzero(scene.labels == part)
    elif chance < 0.92:
        ys, xs = np.nonzero(scene.labels)
    else:
        height, width = scene.labels.shape
        return float(rng.uniform(0, width)), float(rng.uniform(0, height))
    pick = int(rng.integers(len(ys)))
    jitter = rng.normal(0, 20, 2)
    return float(xs[pick] + jitter[0]), float(ys[pick] + jitter[1])


def crop(scene: Scene, rng: Rng, size: int, stance: Stance) -> Scene:
    """A square view (S, S) of a scene, mirrored half of the time.

    What lies outside of the picture is a flat colour, or the picture reflected, or its edge repeated.
    """
    height, width = scene.labels.shape
    side = max(height, width) / stance.zoom
    centre = stance.centre
    if centre is None:
        slack = 0.12 * max(height, width) if stance.zoom < 1.2 else max(0.0, (max(height, width) - side) / 2)
        centre = (
            width / 2 + float(rng.uniform(-slack, slack)),
            height / 2 + float(rng.uniform(-slack, slack)),
        )
    image, labels, shrink = scene.image, scene.labels, 1.0
    if side / size > 1.4:
        # Samples on a coarser grid would alias: halve first.
        half = cv2.resize(image, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
        image, shrink = np.asarray(half, np.uint8), 0.5
    radians = np.deg2rad(stance.turn)
    mirror = -1.0 if rng.random() < 0.5 else 1.0
    step = side / size
    a, b = step * np.cos(radians), step * np.sin(radians)
    matrix = np.array([[a * mirror, -b, 0.0], [b * mirror, a, 0.0]])
    matrix[:, 2] = np.asarray(centre) - matrix[:, :2] @ np.array([size / 2, size / 2])
    mode = (cv2.BORDER_CONSTANT, cv2.BORDER_REFLECT_101, cv2.BORDER_REPLICATE)[int(rng.integers(3))]
    fill = FILL if rng.random() < 0.6 else tuple(int(v) for v in rng.integers(0, 256, 3))
    way = cv2.WARP_INVERSE_MAP
    seen = cv2.warpAffine(
        image, matrix * shrink, (size, size), flags=cv2.INTER_LINEAR | way, borderMode=mode, borderValue=fill
    )
    named = cv2.warpAffine(
        labels, matrix, (size, size), flags=cv2.INTER_NEAREST | way, borderMode=mode, borderValue=0
    )
    return Scene(seen.astype(np.uint8), named.astype(np.uint8))


def photograph(image: Image, rng: Rng) -> Image:
    """The picture as another camera would have taken it: focus, light, white balance, noise, compression."""
    for chance, effect in (
        (0.25, _coarse),
        (0.25, _blurred),
        (1.0, _lit),
        (0.2, _coloured),
        (0.3, _noisy),
        (0.25, _compressed),
    ):
        if rng.random() < chance:
            image = effect(image, rng)
    return image


def _coarse(image: Image, rng: Rng) -> Image:
    size = image.shape[0]
    small = max(int(size / rng.uniform(1.3, 4.0)), 16)
    fewer = cv2.resize(image, (small, small), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(fewer, (size, size), interpolation=cv2.INTER_LINEAR), np.uint8)


def _blurred(image: Image, rng: Rng) -> Image:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.4, 1.8))), np.uint8)


def _lit(image: Image, rng: Rng) -> Image:
    """Exposure, white balance, contrast and gamma, in one table for each channel."""
    level = np.linspace(0, 1, 256)[:, None]
    gamma = np.exp(rng.normal(0, 0.22))
    gain = np.exp(rng.normal(0, 0.12) + rng.normal(0, 0.07, 3))
    curve = (level**gamma - 0.5) * np.exp(rng.normal(0, 0.12)) + 0.5
    table = np.clip(curve * gain * 255, 0, 255).astype(np.uint8)[:, None]
    return np.asarray(cv2.LUT(image, table), np.uint8)


def _coloured(image: Image, rng: Rng) -> Image:
    """Less or more colour, now and then down to a black-and-white print."""
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    keep = float(rng.uniform(0.0, 1.4)) if rng.random() < 0.25 else float(rng.uniform(0.6, 1.4))
    return np.asarray(cv2.addWeighted(image, keep, grey, 1 - keep, 0), np.uint8)


def _noisy(image: Image, rng: Rng) -> Image:
    # A pool of noise shifted at random is much cheaper than fresh noise, and as good for this purpose.
    shift = int(rng.integers(_NOISE.size - image.size))
    noise = _NOISE.reshape(-1)[shift : shift + image.size].reshape(image.shape)
    noisy = image + noise * np.float32(rng.uniform(2, 12))
    return np.clip(noisy, 0, 255).astype(np.uint8)


def _compressed(image: Image, rng: Rng) -> Image:
    _, coded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 90))])
    decoded = cv2.imdecode(coded, cv2.IMREAD_COLOR)
    assert decoded is not None
    return np.asarray(decoded, np.uint8)
