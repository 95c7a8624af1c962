"""What might be a face and was confirmed by no search: people out of focus behind the one whom the picture is of.

A detector is least sure where a face is blurred, turned away or half covered, and an independent recogniser may know
such a person all the same. So what it sees below its threshold counts too, in the picture and in its mirror image, away
from the faces that were found: if it has the size of a face that can be recognised and the colours of skin, it is a
doubt, and a doubt holds.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from inference.contract import Face, FaceAnalyser, Image, Mask
from inference.regions import reflected

LEAST_FACE_PX = 20.0
"""Side of a box below which nobody is looked for: at 20 pixels a 512-d recogniser still knew 26 of 26 people again, at
16 pixels 19. Neither a nearer look nor the segmentation tells such faces from knots of ties, so both hold."""
LARGEST_SHARE = 0.5
"""Side of a box, as a share of the picture's longer side, above which it is the segmentation's to see features in it:
bare skin from close by makes a detector guess at faces that fill the picture."""
LARGEST_RATIO = 2.0
"""Side of a box in sides of the largest face found: who stands behind is not that much larger."""
OPEN = 0.5
"""Share of the middle of a box that must lie outside what is hidden or kept; the rest is dealt with already."""
SKIN = 0.35
"""Share of the middle of a box that must have the colours of skin."""
GREY = 8.0
"""Mean distance of Cr and Cb from 128 below which a region has no colour to judge by, and counts as skin."""
CORE = 0.7
"""The middle of a box: an ellipse of this share of its sides."""
WORK_PX = 640
"""Colours are looked at with the longer side reduced to this."""


def doubts(image: Image, faces: Sequence[Face], analyser: FaceAnalyser, done: Mask) -> tuple[Face, ...]:
    """What may be further faces in a photograph, uint8 RGB (H, W, 3), surest first.

    Parameters
    ----------
    image
        The photograph as it arrived.
    faces
        Those that were found.
    analyser
        Asked for everything it thinks possible.
    done
        bool (H, W): hidden, or kept by rule.

    Raises
    ------
    inference.contract.Unavailable
        The analyser cannot answer now.
    """
    scale = min(1.0, WORK_PX / max(image.shape[:2]))
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    small = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    open_to_see = cv2.resize(done.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) == 0
    found: list[Face] = []
    mirror = np.ascontiguousarray(image[:, ::-1])
    seen = [
        *analyser.find(image, doubtful=True),
        *(reflected(face, image.shape[1]) for face in analyser.find(mirror, doubtful=True)),
    ]
    largest = LARGEST_SHARE * max(image.shape[:2])
    if faces:
        largest = min(largest, LARGEST_RATIO * max(_side(face) for face in faces))
    for face in sorted(seen, key=lambda one: -one.score):
        side = _side(face)  # one that is no number goes on, and cannot be placed below
        if side < LEAST_FACE_PX or side > largest or any(_about(face, one) for one in faces):
            continue
        if any(_about(face, one) for one in found):
            continue  # the same, seen in the other look
        core = _core(face, scale, *small.shape[:2])
        if core.any() and open_to_see[core].mean() > OPEN and _skin(small[core]) >= SKIN:
            found.append(face)
    return tuple(found)


def _side(face: Face) -> float:
    """Side in pixels of the square as large as a face's box."""
    return float(np.sqrt(np.prod(np.maximum(face.box[2:] - face.box[:2], 0))))


def _about(face: Face, known: Face) -> bool:
    """Whether a box is another guess at a face that was found: it holds that face's middle."""
    x, y = (known.box[:2] + known.box[2:]) / 2
    return bool(face.box[0] <= x <= face.box[2] and face.box[1] <= y <= face.box[3])


def _core(face: Face, scale: float, height: int, width: int) -> Mask:
    canvas = np.zeros((height, width), np.uint8)
    (x0, y0, x1, y1) = (float(v) * scale for v in face.box)
    box = (((x0 + x1) / 2, (y0 + y1) / 2), (CORE * (x1 - x0), CORE * (y1 - y0)), 0.0)
    cv2.ellipse(canvas, box, 1, -1)
    return np.asarray(canvas > 0)


def _skin(pixels: Image) -> float:
    """Share of pixels (N, 3) with the chroma of skin of any tone, in [0, 1]; 1 where there is no colour.

    In YCrCb skin of every tone lies on the red side of grey: Cr above 128, Cb below, the first no less than half the
    second's distance. The bounds are wide: coloured light must not make a face disappear.
    """
    _, red, blue = (
        channel.astype(np.float32) - 128
        for channel in cv2.split(cv2.cvtColor(pixels[None], cv2.COLOR_RGB2YCrCb))
    )
    if np.abs(red).mean() + np.abs(blue).mean() < GREY:
        return 1.0
    like = (red > 3) & (red < 60) & (blue < 4) & (blue > -64) & (red > -0.4 * blue)
    return float(like.mean())
