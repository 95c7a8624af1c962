"""Who is in a photograph: each person once, upright or turned, near or far.

A detector proposes, the segmentation confirms: a face is believed where eyes, nose and mouth are seen at its landmarks.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from inference.contract import Face, FaceAnalyser, Image, Models
from inference.crops import spans
from inference.regions import agreement

CONFIRMED = 0.5
"""Least mean agreement of landmarks and segmentation that confirms a face."""
EACH_CONFIRMED = 0.2
"""Least agreement about each of both eyes, nose and mouth before a face is compared with another: where one of them
lies elsewhere, the face is aligned so that it is unlike anybody."""
COVERED = 0.7
"""Least certainty of a lesion that it lies over one of them."""
SAME_FACE = 0.3
"""Intersection over union from which on two boxes are looks at one face."""
TURNED_SCORE = 0.9
"""Least score of a face that only a turned copy of the picture shows."""
LEAST_TILED_PX = 900
"""Longer side from which on parts of a picture are searched too: detectors look at 640 pixels."""
TILES = (0.4, 0.34)
"""Sides of those parts, as shares of the longer side. Two, so that no face lies at a border of all its parts."""
STEP = 0.7
"""Distance between parts, in sides of one, at most."""
LARGEST_IN_TILE = 0.6
"""Side of a face, in sides of the part, above which it is the whole picture's to show it."""


def search(image: Image, models: Models) -> list[Face]:
    """The faces of a photograph, each person once: at each place the one whose features the segmentation confirms best.

    A detector that looks at turned copies sees many a face twice, once the wrong way up. A face that no look at the
    upright picture shows has to be clear or confirmed; where a turned one is missed, the features that the
    segmentation sees are hidden and hold the picture all the same. What is seen in a part of a large picture has to be
    confirmed, however sure or unsure the detector is.

    Raises
    ------
    inference.contract.Unavailable
        A model cannot answer now.
    """
    upright = models.faces.find(image)
    turned = models.faces.find(image, thorough=True)
    found = [*upright, *turned]
    sure = agreement(image, found, models.segmenter)[0].mean(1)
    known = [face for face, confirmed in zip(found, sure, strict=True) if confirmed >= CONFIRMED]
    far = [
        face for face in _far(image, models.faces) if all(_overlap(face, one) <= SAME_FACE for one in known)
    ]
    looks = [
        *zip(found, sure, strict=True),
        *zip(far, agreement(image, far, models.segmenter)[0].mean(1), strict=True),
    ]
    distinct: list[Face] = []
    for face, confirmed in sorted(looks, key=lambda pair: -pair[1] * pair[0].score):
        clear = face.score >= TURNED_SCORE and not any(face is one for one in far)
        believed = any(face is one for one in upright) or clear or confirmed >= CONFIRMED
        # A face before another's shoulder or cheek is a person of its own where the segmentation confirms it.
        seen_before = (
            _overlap(face, one) > SAME_FACE or confirmed < CONFIRMED
            for one in distinct
            if _same_place(face, one)
        )
        if believed and not any(seen_before):
            distinct.append(face)
    return distinct


def aligned(image: Image, faces: Sequence[Face], models: Models) -> bool:
    """Whether the segmentation confirms the landmarks of every one of these faces, each eye, nose and mouth of it.

    One under a lesion is not refuted by not being seen.

    Raises
    ------
    inference.contract.Unavailable
        A model cannot answer now.
    """
    lesions = [name for name, role in models.roles.items() if role == "lesion"]
    agreed, covered = agreement(image, faces, models.segmenter, lesions)
    each = (agreed >= EACH_CONFIRMED) | (covered >= COVERED)
    return bool((agreed.mean(1) >= CONFIRMED).all() and each.all())


def _far(image: Image, analyser: FaceAnalyser) -> list[Face]:
    """What parts of a large picture show, wholly inside them, that may be a face."""
    found = []
    for left, top, side in _parts(*image.shape[:2]):
        part = np.ascontiguousarray(image[top : top + side, left : left + side])
        height, width = part.shape[:2]
        for face in analyser.find(part, doubtful=True):
            x0, y0, x1, y1 = (float(v) for v in face.box)
            if not float(np.hypot(*spans(face.landmarks)[1])) > 1:
                continue  # no direction can be told from it
            inside = (
                (x0 > 0 or left == 0)
                and (y0 > 0 or top == 0)
                and (x1 < width - 1 or left + width == image.shape[1])
                and (y1 < height - 1 or top + height == image.shape[0])
            )
            if inside and max(x1 - x0, y1 - y0) <= LARGEST_IN_TILE * side:
                shift = np.array([left, top], np.float32)
                found.append(Face(face.box + np.tile(shift, 2), face.landmarks + shift, face.score))
    return found


def _parts(height: int, width: int) -> Iterator[tuple[int, int, int]]:
    """Left, top and side of overlapping squares that cover a large picture; none of a small one."""
    longer = max(height, width)
    if longer < LEAST_TILED_PX:
        return
    for share in TILES:
        side = round(share * longer)
        for top in _starts(height, side):
            for left in _starts(width, side):
                yield left, top, side


def _starts(length: int, side: int) -> list[int]:
    """Where squares of this side begin along a length, evenly, the last one at its end."""
    last = max(0, length - side)
    steps = -(-last // round(STEP * side))
    return [round(last * step / steps) for step in range(steps + 1)] if steps else [0]


def _overlap(face: Face, other: Face) -> float:
    """Intersection over union of two boxes, in [0, 1]."""
    low, high = np.maximum(face.box[:2], other.box[:2]), np.minimum(face.box[2:], other.box[2:])
    common = float(np.prod(np.clip(high - low, 0, None)))
    areas = [float(np.prod(one.box[2:] - one.box[:2])) for one in (face, other)]
    return common / max(sum(areas) - common, 1e-6)


def _same_place(face: Face, other: Face) -> bool:
    """Whether the middle of either box lies inside the other."""
    for inner, outer in ((face.box, other.box), (other.box, face.box)):
        x, y = (inner[:2] + inner[2:]) / 2
        if outer[0] <= x <= outer[2] and outer[1] <= y <= outer[3]:
            return True
    return False
