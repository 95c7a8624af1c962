"""Aligned faces of people who do not exist, mixed from portraits, with a teacher's answer to each.

A teacher answers faces it never saw as readily as faces of real people, so a few hundred portraits give as
many identities as one cares to mix: halves, eyes or mouths exchanged, two faces blended, features pushed
about.

Shape letters: K portraits, P crops, D length of the teacher's answer. Crops are uint8 RGB.
"""

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from inference.contract import Floats, Image
from inference.faces import align, appearance
from inference.faces.portraits import Portrait

log = logging.getLogger(__name__)

MARGIN_PX = 8
"""Crops are kept this much wider on every side, so that a jittered crop still shows skin and not an edge."""

SIDE_PX = align.SIDE_PX + 2 * MARGIN_PX
_SPARE_PX = 8
_WIDE_PX = SIDE_PX + 2 * _SPARE_PX

Teacher = Callable[[Image], Floats]
"""Gives the unit-length embedding (D,) of an aligned uint8 RGB crop (112, 112, 3)."""


def aligned(portraits: Sequence[Portrait]) -> Image:
    """The portraits' faces, upright and wide, uint8 (K, 144, 144, 3)."""
    margin = MARGIN_PX + _SPARE_PX
    return np.stack([align.crop(each.image, each.landmarks, margin_px=margin) for each in portraits])


def _stencil(rng: np.random.Generator) -> Floats:
    """How much of the partner shows, float32 (144, 144, 1) in [0, 1]."""
    size = _WIDE_PX
    kind = int(rng.integers(6))
    if kind == 0:
        return np.full((size, size, 1), rng.uniform(0.3, 0.7), np.float32)
    if kind == 1:
        coarse = rng.normal(0, 1, (int(rng.integers(3, 7)),) * 2).astype(np.float32)
        field = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)
        return (1 / (1 + np.exp(-6 * field)))[:, :, None].astype(np.float32)
    mask = np.zeros((size, size), np.float32)
    shift = MARGIN_PX + _SPARE_PX
    if kind == 2:  # one half
        mask[:, : size // 2] = 1
    elif kind == 3:  # below the eyes
        mask[shift + int(rng.uniform(58, 80)) :] = 1
    elif kind == 4:  # the eyes
        cv2.ellipse(
            mask,
            (shift + 56, shift + 50),
            (int(rng.uniform(30, 44)), int(rng.uniform(11, 20))),
            0,
            0,
            360,
            1.0,
            -1,
        )
    else:  # nose, or mouth
        centre, axes = ((56, 70), (13, 20)) if rng.random() < 0.5 else ((56, 92), (24, 13))
        cv2.ellipse(mask, (shift + centre[0], shift + centre[1]), axes, 0, 0, 360, 1.0, -1)
    return cv2.GaussianBlur(mask, (0, 0), rng.uniform(2, 6))[:, :, None].astype(np.float32)


def _toned(source: Floats, like: Floats) -> Floats:
    """``source`` with the mean and spread of colour of ``like``."""
    inner = slice(_WIDE_PX // 4, -_WIDE_PX // 4)
    ours, theirs = source[inner, inner], like[inner, inner]
    spread = theirs.std(axis=(0, 1)) / np.maximum(ours.std(axis=(0, 1)), 1)
    moved = (source - ours.mean(axis=(0, 1))) * np.clip(spread, 0.6, 1.6) + theirs.mean(axis=(0, 1))
    return np.asarray(moved, np.float32)


def _pushed(rng: np.random.Generator, image: Floats) -> Floats:
    """Features moved a few pixels, smoothly: another shape of the same parts."""
    size = _WIDE_PX
    coarse = rng.normal(0, rng.uniform(0.5, 3.2), (5, 5, 2)).astype(np.float32)
    field = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)
    down, across = np.mgrid[:size, :size].astype(np.float32)
    centre = size / 2
    wide, tall = np.exp(rng.normal(0, 0.04, 2))
    x = (across - centre) * wide + centre + field[:, :, 0]
    y = (down - centre) * tall + centre + field[:, :, 1]
    moved = cv2.remap(
        image, x.astype(np.float32), y.astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(moved, np.float32)


def stranger(rng: np.random.Generator, faces: Image) -> Image:
    """One face, uint8 (128, 128, 3), mixed from up to three of ``faces`` (K, 144, 144, 3)."""

    def pick() -> Floats:
        face = faces[int(rng.integers(len(faces)))]
        return np.asarray(face[:, ::-1] if rng.random() < 0.5 else face, np.float32)

    mixed = pick()
    for _ in range(int(rng.choice([0, 1, 2], p=[0.15, 0.5, 0.35]))):
        partner = pick()
        if rng.random() < 0.8:
            partner = _toned(partner, mixed)
        weight = _stencil(rng)
        mixed = mixed * (1 - weight) + partner * weight
    if rng.random() < 0.8:
        mixed = _pushed(rng, mixed)
    inner = slice(_SPARE_PX, -_SPARE_PX)
    return np.clip(mixed, 0, 255).astype(np.uint8)[inner, inner]


def _elsewhere(rng: np.random.Generator, wide: Image, other: Image) -> Image:
    """The face in other surroundings: of one colour, or those of another crop.

    Who somebody is must not be read from the wall behind; an anonymised picture keeps that wall.
    """
    mask = np.zeros((SIDE_PX, SIDE_PX), np.uint8)
    axes = (int(rng.uniform(37, 54)), int(rng.uniform(52, 68)))
    cv2.ellipse(mask, (SIDE_PX // 2, MARGIN_PX + 66), axes, 0, 0, 360, 255, -1)
    weight = cv2.GaussianBlur(mask, (0, 0), rng.uniform(2, 6)).astype(np.float32)[:, :, None] / 255
    around = other.astype(np.float32) if rng.random() < 0.4 else rng.uniform(0, 255, 3).astype(np.float32)
    return np.asarray(wide * weight + around * (1 - weight), np.float32).astype(np.uint8)


def disturbed(rng: np.random.Generator, wide: Image, other: Image) -> Image:
    """What a camera, a detector's error, a disease or an archive makes of a crop; 128² in, 112² out.

    ``other`` is another crop, whose surroundings may be lent.
    """
    if rng.random() < 0.5:
        wide = _elsewhere(rng, wide, other)
    angle, scale = rng.normal(0, 4), np.exp(rng.normal(0, 0.04))
    matrix = cv2.getRotationMatrix2D((SIDE_PX / 2, SIDE_PX / 2), angle, scale)
    matrix[:, 2] = matrix[:, 2] + rng.normal(0, 1.6, 2) - MARGIN_PX
    if rng.random() < 0.5:
        wide = np.ascontiguousarray(wide[:, ::-1])
    side = align.SIDE_PX
    crop = np.asarray(cv2.warpAffine(wide, matrix, (side, side), borderMode=cv2.BORDER_REPLICATE), np.uint8)
    box = np.array([12, 8, 100, 112], np.float32)
    if rng.random() < 0.15:
        crop = appearance.lesions(rng, crop, box)
    if rng.random() < 0.08:
        crop = appearance.patch(rng, crop, box)
    if rng.random() < 0.75:
        crop = appearance.light(rng, crop)
    if rng.random() < 0.2:
        crop = appearance.shade(rng, crop)
    return appearance.lens(rng, crop)


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """Crops and what the teacher says of them.

    Attributes
    ----------
    crops
        uint8 (P, 128, 128, 3); the teacher saw the middle (112, 112).
    embeddings
        float16 (P, D), unit length.
    """

    crops: NDArray[np.uint8]
    embeddings: NDArray[np.float16]


def answered(
    teacher: Teacher, portraits: Sequence[Portrait], folder: Path, *, count: int, seed: int
) -> Answers:
    """Mixed faces with the teacher's answers, made once and kept in ``folder``.

    An interrupted run continues where it was; the same seed makes the same faces.

    Parameters
    ----------
    teacher
        Answers an aligned crop.
    portraits
        Whom to mix.
    folder
        Receives ``crops.npy``, ``answers.npy`` and ``made.json``; about 49 kB a face.
    count, seed
        How many faces, and which.
    """
    folder.mkdir(parents=True, exist_ok=True)
    faces = aligned(portraits)
    inner = slice(MARGIN_PX, -MARGIN_PX)
    length = len(teacher(np.ascontiguousarray(faces[0, :112, :112])))
    note = folder / "made.json"
    wanted = {"count": count, "seed": seed, "portraits": len(portraits), "length": length}
    done = 0
    if note.exists():
        known = json.loads(note.read_text(encoding="utf-8"))
        made = int(known.pop("done"))
        done = made if known == wanted else 0
    mode = "r+" if done else "w+"
    crops = np.lib.format.open_memmap(folder / "crops.npy", mode, np.uint8, (count, SIDE_PX, SIDE_PX, 3))
    embeddings = np.lib.format.open_memmap(folder / "answers.npy", mode, np.float16, (count, length))
    for index in range(done, count):
        crops[index] = stranger(np.random.default_rng((seed, 1, index)), faces)
        embeddings[index] = teacher(np.ascontiguousarray(crops[index, inner, inner]))
        if (index + 1) % 1000 == 0 or index + 1 == count:
            crops.flush()
            embeddings.flush()
            note.write_text(json.dumps({**wanted, "done": index + 1}), encoding="utf-8")
            log.info("answers %d/%d", index + 1, count)
    return Answers(crops, embeddings)
