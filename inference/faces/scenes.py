"""Pictures for a detector to learn from: faces of any size, turned, cut, alone or among others, or none.

Shape letters: S the side of a scene, G faces in it. Scenes are uint8 RGB (S, S, 3); geometry is in the
scene's pixels. Everything is drawn from one generator: the same seed gives the same scenes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from inference.contract import Floats, Image
from inference.faces import appearance
from inference.faces.portraits import MIRRORED, Portrait

SMALLEST_PX = 9.0
"""Faces below this size are neither searched for nor held against the detector."""

HIDDEN, BEHIND, GONE = 0.15, 0.4, 0.85
"""Share of a face's box that others may cover before it need not be found, beside them and behind them; above the
last it is no longer in the picture."""


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """One picture and what is in it.

    Attributes
    ----------
    image
        uint8 RGB (S, S, 3).
    boxes
        float32 (G, 4), not clipped to the picture.
    landmarks
        float32 (G, 5, 2), not clipped either.
    counted
        bool (G,): whether a detector must find this face (``False``: it may, or may not).
    """

    image: Image
    boxes: Floats
    landmarks: Floats
    counted: np.ndarray[tuple[int], np.dtype[np.bool_]]


@dataclass(slots=True)
class _Sketch:
    image: Image
    boxes: list[Floats]
    landmarks: list[Floats]
    counted: list[bool]


def _transform(points: Floats, matrix: Floats) -> Floats:
    return (points @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)


def _turned_box(portrait: Portrait, matrix: Floats) -> Floats:
    """An upright box around the turned face, its sides softly grown by the turn."""
    x0, y0, x1, y1 = portrait.box
    centre = _transform(np.array([[(x0 + x1) / 2, (y0 + y1) / 2]], np.float32), matrix)[0]
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    cosine = abs(float(matrix[0, 0])) / scale
    sine = abs(float(matrix[1, 0])) / scale
    # An ellipse's bounding box, not the rectangle's: a face has no corners.
    half_w, half_h = (x1 - x0) / 2 * scale, (y1 - y0) / 2 * scale
    across = float(np.hypot(half_w * cosine, half_h * sine))
    down = float(np.hypot(half_w * sine, half_h * cosine))
    return np.array([centre[0] - across, centre[1] - down, centre[0] + across, centre[1] + down], np.float32)


def _placing(
    rng: np.random.Generator, portrait: Portrait, side_px: float, centre: Floats
) -> tuple[Floats, bool]:
    """Matrix (2, 3) that brings the face to ``centre`` at ``side_px``, turned and perhaps mirrored."""
    x0, y0, x1, y1 = portrait.box
    scale = side_px / float(max(x1 - x0, y1 - y0))
    draw = rng.random()
    angle = float(np.clip(rng.normal(0, 14), -42, 42) if draw < 0.85 else rng.uniform(-50, 50))
    mirrored = bool(rng.random() < 0.5)
    cosine, sine = np.cos(np.radians(angle)) * scale, np.sin(np.radians(angle)) * scale
    stretch = float(np.exp(rng.normal(0, 0.04)))
    turn = np.array([[cosine * stretch, -sine], [sine * stretch, cosine]], np.float32)
    if mirrored:
        turn[:, 0] *= -1
    middle = np.array([(x0 + x1) / 2, (y0 + y1) / 2], np.float32)
    shift = centre - turn @ middle
    return np.concatenate([turn, shift[:, None]], axis=1).astype(np.float32), mirrored


def _landmarks(portrait: Portrait, matrix: Floats, mirrored: bool) -> Floats:
    moved = _transform(portrait.landmarks, matrix)
    return moved[list(MIRRORED)] if mirrored else moved


def _without_face(rng: np.random.Generator, portrait: Portrait) -> Image:
    """A portrait whose face has become featureless skin."""
    image = portrait.image
    x0, y0, x1, y1 = portrait.box
    side = float(max(x1 - x0, y1 - y0))
    small = cv2.resize(image, None, fx=0.125, fy=0.125, interpolation=cv2.INTER_AREA)
    soft = cv2.resize(
        cv2.GaussianBlur(small, (0, 0), side / 8 * rng.uniform(0.14, 0.4)), (image.shape[1], image.shape[0])
    )
    stencil = np.zeros(image.shape[:2], np.uint8)
    centre = (int((x0 + x1) / 2), int((y0 + y1) / 2))
    cv2.ellipse(stencil, centre, (int((x1 - x0) * 0.62), int((y1 - y0) * 0.62)), 0, 0, 360, 255, -1)
    weight = cv2.GaussianBlur(stencil, (0, 0), side * 0.05).astype(np.float32)[:, :, None] / 255
    mixed = image * (1 - weight) + soft * weight
    if rng.random() < 0.5:
        grain = rng.normal(0, rng.uniform(1, 7), image.shape[:2]).astype(np.float32)[:, :, None]
        mixed = mixed + grain * weight
    return np.clip(mixed, 0, 255).astype(np.uint8)


@dataclass(frozen=True, slots=True, eq=False)
class Plate:
    """A portrait whose face has become featureless skin, and where its landmarks were."""

    image: Image
    landmarks: Floats


def plates(rng: np.random.Generator, portraits: Sequence[Portrait], count: int) -> list[Plate]:
    """Backgrounds without faces, made once because making them is slow."""
    chosen = rng.permutation(len(portraits))[:count]
    return [Plate(_without_face(rng, portraits[each]), portraits[each].landmarks) for each in chosen]


def background(rng: np.random.Generator, plates: Sequence[Plate], size: int) -> Image:
    """A picture (size, size, 3) without any face."""
    draw = rng.random()
    if draw < 0.2 or not plates:
        base = np.full((size, size, 3), rng.integers(0, 256, 3), np.float32)
        low = rng.normal(0, rng.uniform(0, 40), (4, 4, 3)).astype(np.float32)
        smooth = np.asarray(cv2.resize(low, (size, size)), np.float32)
        return np.asarray(np.clip(base + smooth, 0, 255), np.uint8)
    plate = plates[int(rng.integers(len(plates)))]
    image = plate.image
    if draw < 0.35:
        # Skin without features, from close by: cheeks and foreheads are what clinics photograph.
        right, left, nose, corner = (plate.landmarks[each] for each in (0, 1, 2, 3))
        spot = (
            (right + left) / 2 - (nose - (right + left) / 2) if rng.random() < 0.5 else (right + corner) / 2
        )
        reach = float(np.hypot(*(left - right))) * rng.uniform(0.2, 0.6)
    else:
        reach = float(rng.uniform(0.12, 0.5)) * min(image.shape[:2])
        spot = rng.uniform(reach * 0.5, min(image.shape[:2]) - reach * 0.5, 2).astype(np.float32)
    angle = rng.uniform(0, 360)
    matrix = cv2.getRotationMatrix2D(
        (float(spot[0]), float(spot[1])), angle if rng.random() < 0.5 else 0, size / (2 * reach)
    )
    matrix[:, 2] += size / 2 - spot
    return np.asarray(
        cv2.warpAffine(
            image, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
        ),
        np.uint8,
    )


def _stencil(rng: np.random.Generator, portrait: Portrait, *, bust: bool) -> tuple[np.ndarray, bool]:
    """What is pasted of a portrait, uint8 (H, W), and whether it is all of it; a bust is head and shoulders."""
    height, width = portrait.image.shape[:2]
    stencil = np.zeros((height, width), np.uint8)
    if not bust and rng.random() < 0.6:
        stencil[2:-2, 2:-2] = 255
        return stencil, True
    x0, y0, x1, y1 = portrait.box
    middle = int((x0 + x1) / 2)
    grow = rng.uniform(0.62, 0.8 if bust else 0.95)
    axes = (int((x1 - x0) * grow), int((y1 - y0) * grow))
    cv2.ellipse(stencil, (middle, int((y0 + y1) / 2)), axes, 0, 0, 360, 255, -1)
    if bust:
        shoulders = (int((x1 - x0) * rng.uniform(1.1, 1.6)), int((y1 - y0) * rng.uniform(0.6, 0.9)))
        cv2.ellipse(stencil, (middle, int(y1 + shoulders[1])), shoulders, 0, 0, 360, 255, -1)
    return stencil, False


def _paste(  # noqa: PLR0913 - where, how large, and how it lies over the others
    rng: np.random.Generator,
    sketch: _Sketch,
    portrait: Portrait,
    side_px: float,
    centre: Floats,
    *,
    hidden: float = HIDDEN,
    bust: bool = False,
) -> None:
    """One portrait into the scene: the whole picture, or a part of it with a soft edge."""
    size = sketch.image.shape[0]
    matrix, mirrored = _placing(rng, portrait, side_px, centre)
    warped = cv2.warpAffine(
        portrait.image, matrix, (size, size), flags=cv2.INTER_AREA if side_px < 90 else cv2.INTER_LINEAR
    )
    stencil, whole = _stencil(rng, portrait, bust=bust)
    soft_px = 1.0 if whole else max(1.0, side_px * (0.02 if bust else 0.05))
    weight = cv2.warpAffine(stencil, matrix, (size, size))
    weight = (
        cv2.blur(weight, (int(soft_px * 2) | 1, int(soft_px * 2) | 1)).astype(np.float32)[:, :, None] / 255
    )
    covered = weight[:, :, 0] > 0.3
    for index in reversed(range(len(sketch.boxes))):
        x0, y0, x1, y1 = (int(each) for each in np.clip(sketch.boxes[index], 0, size))
        share = covered[y0:y1, x0:x1].mean() if x1 > x0 and y1 > y0 else 0.0
        if share > hidden:
            sketch.counted[index] = False
        if share > GONE:
            del sketch.boxes[index], sketch.landmarks[index], sketch.counted[index]
    sketch.image = (sketch.image * (1 - weight) + warped * weight).astype(np.uint8)
    sketch.boxes.append(_turned_box(portrait, matrix))
    sketch.landmarks.append(_landmarks(portrait, matrix, mirrored))
    sketch.counted.append(True)


def _bystanders(
    rng: np.random.Generator, sketch: _Sketch, portraits: Sequence[Portrait], most: float
) -> None:
    """Up to three people out of focus, heads of about one size; sometimes nobody, for blur alone is no face."""
    size = sketch.image.shape[0]
    head = float(np.exp(rng.uniform(np.log(0.12), np.log(most))))
    for _ in range(int(rng.choice([0, 1, 2, 3], p=[0.2, 0.4, 0.25, 0.15]))):
        fraction = head * float(np.exp(rng.normal(0, 0.15)))
        centre = rng.uniform(0, 1, 2)
        if rng.random() < 0.75:  # to either side, where the person in front leaves room
            centre[0] = 0.35 * centre[0] if rng.random() < 0.5 else 1 - 0.35 * centre[0]
        _paste(rng, sketch, _any(rng, portraits), fraction * size, (centre * size).astype(np.float32))
    blur_px = head * size * rng.uniform(0.012, 0.075)
    if rng.random() < 0.5:
        sketch.image = np.asarray(cv2.GaussianBlur(sketch.image, (0, 0), blur_px), np.uint8)
    else:  # a lens's disc is flatter than a bell; two boxes come near it
        side = max(1, round(blur_px * 2.45)) | 1
        sketch.image = np.asarray(cv2.blur(cv2.blur(sketch.image, (side, side)), (side, side)), np.uint8)


def _in_front(rng: np.random.Generator, sketch: _Sketch, portraits: Sequence[Portrait]) -> None:
    """The person whom the picture is of, sharp, over whatever stands behind."""
    size = sketch.image.shape[0]
    fraction = float(rng.uniform(0.3, 0.85))
    centre = (rng.uniform(0.3, 0.7, 2) * size).astype(np.float32)
    bust = bool(rng.random() < 0.85)
    _paste(rng, sketch, _any(rng, portraits), fraction * size, centre, hidden=BEHIND, bust=bust)


def _is_counted(box: Floats, landmarks: Floats, size: int) -> bool:
    """A face that must be found is large enough and shows nose and both eyes, or four landmarks."""
    if min(box[2] - box[0], box[3] - box[1]) < SMALLEST_PX:
        return False
    inside = np.all((landmarks >= 1) & (landmarks <= size - 1), axis=1)
    centre = (box[:2] + box[2:]) / 2
    seen = bool(inside[:3].all()) or int(inside.sum()) >= 4
    return seen and bool(np.all((centre > 0) & (centre < size)))


def draw(
    rng: np.random.Generator, portraits: Sequence[Portrait], backdrop: Sequence[Plate], size: int
) -> Scene:
    """One scene of the given side, with none to six faces."""
    sketch = _Sketch(background(rng, backdrop, size), [], [], [])
    kind = rng.random()
    if kind < 0.1:
        pass
    elif kind < 0.45:
        _bystanders(rng, sketch, portraits, most=0.7)
        if rng.random() < 0.8:
            _in_front(rng, sketch, portraits)
    elif kind < 0.78:
        fraction = float(np.exp(rng.uniform(np.log(0.1), np.log(1.3))))
        slack = 0.5 - min(fraction, 0.9) / 2 + (0.12 if rng.random() < 0.3 else 0.02)
        centre = (0.5 + rng.uniform(-slack, slack, 2)) * size
        _paste(rng, sketch, _any(rng, portraits), fraction * size, centre.astype(np.float32))
    elif kind < 0.83:
        # Closer than a face: no detector has to answer, but pores and nostrils are not faces.
        centre = rng.uniform(-0.4, 1.4, 2) * size
        _paste(rng, sketch, _any(rng, portraits), rng.uniform(1.4, 4.0) * size, centre.astype(np.float32))
    else:
        for _ in range(int(rng.integers(2, 7))):
            fraction = float(np.exp(rng.uniform(np.log(0.08), np.log(0.4))))
            centre = rng.uniform(fraction * 0.4, 1 - fraction * 0.4, 2) * size
            _paste(rng, sketch, _any(rng, portraits), fraction * size, centre.astype(np.float32))
    return _finished(rng, sketch, size)


def _any(rng: np.random.Generator, portraits: Sequence[Portrait]) -> Portrait:
    return portraits[int(rng.integers(len(portraits)))]


def _finished(rng: np.random.Generator, sketch: _Sketch, size: int) -> Scene:
    """Occlusions, light and lens over a drawn scene."""
    image = sketch.image
    for box, landmarks in zip(sketch.boxes, sketch.landmarks, strict=True):
        chance = rng.random()
        if chance < 0.2:
            image = appearance.lesions(rng, image, box)
        elif chance < 0.27:
            image = appearance.eye_bar(rng, image, landmarks)
        elif chance < 0.33:
            image = appearance.patch(rng, image, box)
    if rng.random() < 0.8:
        image = appearance.light(rng, image)
    if rng.random() < 0.2:
        image = appearance.shade(rng, image)
    image = appearance.lens(rng, image)
    boxes = np.array(sketch.boxes, np.float32).reshape(-1, 4)
    landmarks = np.array(sketch.landmarks, np.float32).reshape(-1, 5, 2)
    counted = [
        kept and _is_counted(box, points, size)
        for kept, box, points in zip(sketch.counted, boxes, landmarks, strict=True)
    ]
    return Scene(image, boxes, landmarks, np.array(counted, bool))
