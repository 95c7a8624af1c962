"""Where the face, its features and the lesions are: segmentation of the whole picture and, again, of each face.

All maps live at a *working scale* of at most :data:`WORK_PX` a side, so that time and memory do not grow with the
photograph; masks are brought to native size only at the end. Shape letters: H × W native, h × w working, C classes,
S the segmenter's square.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from inference.contract import Face, Floats, Image, Mask, Segmenter
from inference.crops import Crop, face_crop, spans
from inference.pointrend.letterbox import letterbox, unletterbox

WORK_PX = 1024
FACE_SEGMENT_SPANS = 3.6


@dataclass(frozen=True, slots=True, eq=False)
class Regions:
    """Class probabilities of one picture at working scale.

    Attributes
    ----------
    probabilities
        float32 (C, h, w) in [0, 1], in the order of ``classes``.
    classes
        Class names.
    scale
        Working pixels per native pixel, at most 1.
    """

    probabilities: Floats
    classes: tuple[str, ...]
    scale: float

    def of(self, names: Sequence[str]) -> Floats:
        """Probability (h, w) that a pixel belongs to any of the named classes."""
        return np.asarray(self.probabilities[[self.classes.index(name) for name in names]].sum(0))


def segment(image: Image, faces: Sequence[Face], segmenter: Segmenter, *, mirrored: bool = False) -> Regions:
    """Segment a picture, uint8 RGB (H, W, 3), as a whole and once more around every face.

    ``mirrored`` looks at the mirror image instead: a second opinion of the same model, for gates.

    Raises
    ------
    inference.contract.Unavailable
        The segmenter cannot answer now.
    """
    scale = min(1.0, WORK_PX / max(image.shape[:2]))
    small = image
    if scale < 1:
        shrunk = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        small = np.asarray(shrunk, np.uint8)
    if mirrored:
        small = np.ascontiguousarray(small[:, ::-1])
        faces = [reflected(face, image.shape[1]) for face in faces]
    height, width = small.shape[:2]
    size = segmenter.size_px
    square, placed = letterbox(small, size)
    crops = [face_crop(face.landmarks * scale, size, side_spans=FACE_SEGMENT_SPANS) for face in faces]
    answers = _answered(segmenter, np.stack([square, *(crop.take(small) for crop in crops)]))
    whole = unletterbox(answers[0], placed)
    near = whole.copy()
    # Best faces last: where crops overlap, the surest face's view decides, not that of a doubtful find.
    for crop, answer in reversed(list(zip(crops, answers[1:], strict=True))):
        inside = _back(np.ones((1, size, size), np.float32), crop, height, width)[0] > 0.99
        near[:, inside] = _back(answer, crop, height, width)[:, inside]
    merged = _cautious(near, whole, segmenter.classes)
    return Regions(merged[..., ::-1] if mirrored else merged, segmenter.classes, scale)


def agreement(
    image: Image, faces: Sequence[Face], segmenter: Segmenter, lesions: Sequence[str] = ()
) -> tuple[Floats, Floats]:
    """How well the segmentation sees both eyes, nose and mouth where F faces have their landmarks.

    Each face is looked at turned upright by its own landmarks, so a face taken upside down agrees badly.

    Returns
    -------
    float32 (F, 4), float32 (F, 4)
        How surely each of them is there, and how surely one of the classes ``lesions`` lies there instead, in [0, 1].

    Raises
    ------
    inference.contract.Unavailable
        The segmenter cannot answer now.
    """
    agreed, covered = np.zeros((len(faces), 4), np.float32), np.zeros((len(faces), 4), np.float32)
    if not faces:
        return agreed, covered
    size = segmenter.size_px
    crops = [face_crop(face.landmarks, size, side_spans=FACE_SEGMENT_SPANS) for face in faces]
    answers = _answered(segmenter, np.stack([crop.take(image) for crop in crops]))
    reach = max(1, round(0.08 * size / FACE_SEGMENT_SPANS))
    rows = [segmenter.classes.index(name) for name in lesions]
    for index, (face, crop, answer) in enumerate(zip(faces, crops, answers, strict=True)):
        points = face.landmarks @ crop.matrix[:, :2].T + crop.matrix[:, 2]
        places = zip(("eye", "eye", "nose", "mouth"), [*points[:3], points[3:].mean(0)], strict=True)
        for place, (name, (x, y)) in enumerate(places):
            at = answer[
                :,
                max(0, round(y) - reach) : max(0, round(y) + reach + 1),
                max(0, round(x) - reach) : max(0, round(x) + reach + 1),
            ]
            if at[0].size:
                agreed[index, place] = at[segmenter.classes.index(name)].max()
                covered[index, place] = at[rows].sum(0).max()
    return agreed, covered


def _answered(segmenter: Segmenter, views: Image) -> Floats:
    """The segmenter's probabilities (N, C, S, S), every one of them a number.

    Raises
    ------
    FloatingPointError
        One is not: a comparison with it would see nothing to hide.
    """
    answers = segmenter.segment(views)
    if not np.isfinite(answers).all():
        raise FloatingPointError("the segmenter gave probabilities that are no numbers")
    return answers


def reflected(face: Face, width: int) -> Face:
    """A face of the mirror image, ``width`` pixels wide, in the picture itself; and the other way round."""
    points = face.landmarks[[1, 0, 2, 4, 3]].copy()
    points[:, 0] = width - 1 - points[:, 0]
    x0, y0, x1, y1 = face.box
    return Face(np.array([width - 1 - x1, y0, width - 1 - x0, y1], np.float32), points, face.score)


def _cautious(near: Floats, whole: Floats, classes: tuple[str, ...]) -> Floats:
    """The nearer look decides, but what either look takes for a part of a face stays one."""
    background = classes.index("background")
    merged = near.copy()
    surprise = np.clip(near[background] - whole[background], 0, None)
    merged[background] -= surprise
    share = whole.copy()
    share[background] = 0
    total = share.sum(0)
    merged += share / np.maximum(total, 1e-6) * surprise
    return merged


def _back(answer: Floats, crop: Crop, height: int, width: int) -> Floats:
    planes = [
        cv2.warpAffine(
            plane, crop.matrix, (width, height), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_CONSTANT, borderValue=0,
        )
        for plane in np.ascontiguousarray(answer, np.float32)
    ]  # fmt: skip
    return np.stack(planes)


def face_oval(face: Face, scale: float, height: int, width: int) -> Mask:
    """The oval (h, w) that a face with these landmarks fills, a little inside the outline of most faces."""
    eyes, span = spans(face.landmarks * scale)
    return _ellipse(height, width, eyes + 0.53 * span, (1.0, 1.3), span)


def landmark_features(face: Face, scale: float, height: int, width: int) -> dict[str, Mask]:
    """Eyes, brows, nose and mouth (h, w) as the landmarks alone place them, generously, by name."""
    points = np.asarray(face.landmarks * scale, np.float64)
    eyes, span = spans(points.astype(np.float32))
    masks = {}
    for name, point in (("right eye", points[0]), ("left eye", points[1])):
        masks[name] = _ellipse(height, width, point, (0.30, 0.17), span)
        masks[name.replace("eye", "brow")] = _ellipse(height, width, point - 0.30 * span, (0.36, 0.13), span)
    masks["nose"] = _ellipse(height, width, 0.65 * points[2] + 0.35 * eyes, (0.26, 0.42), span)
    mouth = points[3:].mean(0)
    half = float(np.hypot(*(points[4] - points[3]))) / 2 / max(float(np.hypot(*span)), 1e-6)
    masks["mouth"] = _ellipse(height, width, mouth, (half + 0.06, 0.22), span)
    return masks


def _ellipse(
    height: int, width: int, centre: NDArray[np.float64], axes: tuple[float, float], span: NDArray[np.float64]
) -> Mask:
    length = float(np.hypot(*span))
    canvas = np.zeros((height, width), np.uint8)
    angle = float(np.degrees(np.arctan2(-span[0], span[1])))
    box = ((float(centre[0]), float(centre[1])), (2 * axes[0] * length, 2 * axes[1] * length), angle)
    cv2.ellipse(canvas, box, 255, -1)
    return np.asarray(canvas > 0)


def grow(mask: Mask, radius_px: float) -> Mask:
    """``mask`` (h, w) dilated by a disc of this radius."""
    if not radius_px > 0 or not mask.any():
        return mask
    return np.asarray(cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 5) <= radius_px)


def to_native(mask: Mask, height: int, width: int) -> Mask:
    """A working-scale mask (h, w) at native size (H, W), its outline interpolated."""
    if mask.shape == (height, width):
        return mask
    return np.asarray(
        cv2.resize(mask.astype(np.uint8) * 255, (width, height), interpolation=cv2.INTER_LINEAR) > 127
    )
