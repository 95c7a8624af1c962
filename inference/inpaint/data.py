"""Training pictures for the inpainter: upright face crops, some with lesions, and the masks the gateway would use.

Every portrait is cut once into a generous upright crop; samples are drawn from those with jitter, so that a
training step costs no decoding and no painting. Shape letters: N pictures, S crop side.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from inference.contract import DISEASES, Image, Mask
from inference.crops import FACE_SIDE_SPANS, face_crop
from inference.phantom import paint
from inference.split import held_back

STORE_PX = 256
STORE_SPANS = 4.4
GROWN = (0.05, 0.16)
"""How far what is hidden may reach beyond the labelled face, a share of the sample's side: the gateway's hide_margin of
0.25 face widths is 0.14 of it."""
REGIONS = {"skin": 1, "brow": 2, "eye": 3, "nose": 4, "mouth": 5}
TONES = ("light", "medium", "dark")


@dataclass(frozen=True, slots=True, eq=False)
class Portraits:
    """Upright crops of many portraits, each also with painted lesions.

    Attributes
    ----------
    images
        uint8 (N, V, 256, 256, 3) RGB; variant 0 is as photographed, 1… have a disease painted on.
    lesions
        bool (N, V, 256, 256), empty for variant 0.
    labels
        uint8 (N, 256, 256): 0 other, 1 skin, 2 brow, 3 eye, 4 nose, 5 mouth.
    diseases
        Index into :data:`inference.contract.DISEASES` of each variant, −1 for none; int (N, V).
    tones
        Index into :data:`TONES`, int (N,).
    """

    images: NDArray[np.uint8]
    lesions: NDArray[np.bool_]
    labels: NDArray[np.uint8]
    diseases: NDArray[np.int64]
    tones: NDArray[np.int64]


def load_portraits(
    folder: Path, *, held: bool, variants: int, seed: int, tick: Callable[[], None] = lambda: None
) -> Portraits:
    """Read the portraits of ``folder`` (``images``, ``labels``, ``faces.json``): the held-back ones, or the others.

    ``variants`` counts the painted versions kept of each portrait besides the original.
    """
    faces = json.loads((folder / "faces.json").read_text())
    behind = held_back(face["name"] for face in faces)
    chosen = [face for face in faces if (face["name"] in behind) == held]
    images, lesions, labels, diseases, tones = [], [], [], [], []
    for index, face in enumerate(chosen):
        picture = read_image(folder / "images" / f"{face['name']}.jpg")
        label = read_image(folder / "labels" / f"{face['name']}.png")[..., 0]
        crop = face_crop(np.array(face["landmarks5"], np.float32), STORE_PX, side_spans=STORE_SPANS)
        plain = crop.take(picture)
        near = cv2.warpAffine(label, crop.matrix, (STORE_PX, STORE_PX), flags=cv2.INTER_NEAREST)
        regions = {name: near == value for name, value in REGIONS.items()}
        versions, painted, named = [plain], [np.zeros(near.shape, bool)], [-1]
        for variant in range(variants):
            which = (index + variant) % len(DISEASES)
            draw = np.random.default_rng([seed, index, variant])
            result = paint(
                plain, near > 0, DISEASES[which], int(draw.integers(2**31)),
                regions=regions, severity=float(draw.uniform(0.15, 0.8)),
            )  # fmt: skip
            versions.append(result.image)
            painted.append(result.lesion)
            named.append(which)
        images.append(np.stack(versions))
        lesions.append(np.stack(painted))
        labels.append(near)
        diseases.append(named)
        tones.append(tone_of(plain, near == REGIONS["skin"]))
        tick()
    return Portraits(
        np.stack(images), np.stack(lesions), np.stack(labels), np.array(diseases), np.array(tones, np.int64)
    )


def read_image(file: Path) -> Image:
    """A picture file as uint8 RGB (H, W, 3); grey ones have three equal channels.

    Raises
    ------
    FileNotFoundError
        The file is missing or is no picture.
    """
    bgr = cv2.imread(str(file), cv2.IMREAD_COLOR)
    if bgr is None:
        raise FileNotFoundError(f"{file} is missing or is no picture.")
    return np.ascontiguousarray(bgr[..., ::-1], np.uint8)


def tone_of(image: Image, skin: Mask) -> int:
    """Index into :data:`TONES` by the individual typology angle of the median skin colour (Chardon 1991)."""
    lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[skin]
    lightness, _, yellow = np.median(lab, axis=0) if len(lab) else (60.0, 0.0, 15.0)
    angle = np.degrees(np.arctan2(lightness - 50, max(float(yellow), 1e-3)))
    return 0 if angle > 28 else 1 if angle > -10 else 2


def prompt_for(disease: int, tone: int, draw: np.random.Generator) -> str:
    """A training prompt; what it leaves out by chance, the model learns to do without."""
    words = "clinical photograph of a face"
    if tone >= 0 and draw.random() < 0.5:
        words += f" with {TONES[tone]} skin"
    if disease >= 0 and draw.random() < 0.7:
        words += f" showing {DISEASES[disease]}"
    return "" if draw.random() < 0.1 else words


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One training picture: uint8 RGB (S, S, 3), what to hide (S, S), features' weight (S, S), and its prompt."""

    image: Image
    hide: Mask
    features: Mask
    prompt: str


def samples(portraits: Portraits, order: Sequence[int], size_px: int, seed: int) -> Iterator[Sample]:
    """Draw one sample for each portrait index in ``order``: jittered frame, colour, mask margin and kept lesions."""
    for step, index in enumerate(order):
        yield draw_sample(portraits, int(index), size_px, np.random.default_rng([seed, step, int(index)]))


def draw_sample(portraits: Portraits, index: int, size_px: int, draw: np.random.Generator) -> Sample:
    """One sample of portrait ``index``, decided by ``draw`` alone."""
    variants = portraits.images.shape[1]
    variant = int(draw.integers(variants)) if draw.random() < 0.6 else 0
    seen = look(
        portraits.images[index, variant],
        portraits.labels[index],
        portraits.lesions[index, variant],
        size_px,
        draw,
    )
    disease = int(portraits.diseases[index, variant])
    prompt = prompt_for(disease, int(portraits.tones[index]), draw)
    return Sample(seen.image, seen.hide, seen.labels >= 2, prompt)


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """One look at a face: uint8 RGB (S, S, 3), its labels uint8 (S, S), where lesions are and what to hide (S, S)."""

    image: Image
    labels: NDArray[np.uint8]
    lesion: Mask
    hide: Mask


def look(
    image: Image, label: NDArray[np.uint8], lesion: Mask, size_px: int, draw: np.random.Generator
) -> View:
    """A stored crop (P, P) as it may come to the inpainter: frame, colour and margin jittered, lesions kept or not.

    What is hidden is the face, with a margin, without the lesions: in three of ten looks the lesions too.
    """
    frame = _frame(image.shape[0], size_px, draw)
    if draw.random() < 0.5:
        mirror = np.array([[-1.0, 0.0, size_px - 1.0], [0.0, 1.0, 0.0]])
        frame = np.concatenate(
            [mirror[:, :2] @ frame[:, :2], (mirror[:, :2] @ frame[:, 2:]) + mirror[:, 2:]], 1
        )
    area = (size_px, size_px)
    warped = cv2.warpAffine(image, frame, area, flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE)
    regions = cv2.warpAffine(label, frame, area, flags=cv2.INTER_NEAREST)
    spots = cv2.warpAffine(lesion.astype(np.uint8), frame, area, flags=cv2.INTER_NEAREST) > 0
    picture = _tint(np.asarray(warped, np.uint8), draw)
    grown = round(size_px * draw.uniform(*GROWN))
    oval = cv2.dilate((regions > 0).astype(np.uint8), _disc(grown)) > 0
    if draw.random() < 0.15:
        oval |= _blob(size_px, draw)
    keep = cv2.dilate(spots.astype(np.uint8), _disc(int(draw.integers(1, 4)))) > 0
    if draw.random() < 0.3:
        keep[:] = False
    return View(picture, np.asarray(regions, np.uint8), np.asarray(spots), np.asarray(oval & ~keep))


def _frame(stored_px: int, size_px: int, draw: np.random.Generator) -> NDArray[np.float64]:
    """Stored crop to sample: most as the gateway frames a face, some a nearer look at a part of it, turned."""
    middle = np.full(2, stored_px / 2)
    standard = FACE_SIDE_SPANS / STORE_SPANS * stored_px
    if draw.random() < 0.1:
        side = standard / draw.uniform(1.2, 2.0)
        angle = float(draw.uniform(-180, 180))
        centre = middle + draw.uniform(-0.2, 0.2, 2) * stored_px
    else:
        side = standard * float(np.exp(draw.uniform(-0.03, 0.16)))
        angle = float(draw.normal(0, 4)) if draw.random() < 0.85 else float(draw.uniform(-20, 20))
        centre = middle + draw.uniform(-0.03, 0.03, 2) * stored_px
    turn = cv2.getRotationMatrix2D((float(centre[0]), float(centre[1])), angle, size_px / side)
    frame = np.asarray(turn, np.float64)
    frame[:, 2] += size_px / 2 - centre
    return frame


def _tint(picture: Image, draw: np.random.Generator) -> Image:
    gain = np.exp(draw.normal(0, 0.06)) * np.exp(draw.normal(0, 0.025, 3))
    return np.asarray(np.clip(picture.astype(np.float32) * gain, 0, 255), np.uint8)


def _disc(radius: int) -> NDArray[np.uint8]:
    return np.asarray(
        cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1)), np.uint8
    )


def _blob(size_px: int, draw: np.random.Generator) -> Mask:
    canvas = np.zeros((size_px, size_px), np.uint8)
    centre = tuple(int(v) for v in draw.integers(0, size_px, 2))
    axes = tuple(int(v) for v in draw.integers(size_px // 12, size_px // 4, 2))
    cv2.ellipse(canvas, centre, axes, float(draw.uniform(0, 180)), 0, 360, 255, -1)
    return np.asarray(canvas > 0)
