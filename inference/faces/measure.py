"""What a face pack does on portraits whose faces are known.

Shape letters: N portraits, D length of an embedding.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from inference.contract import Face, Floats, Image
from inference.faces.analyser import InsightFaceAnalyser
from inference.faces.calibrate import Calibration, calibrate
from inference.faces.portraits import Portrait

MATCHED = 0.4
"""Overlap (intersection over union) from which a box found counts as the box known."""


@dataclass(frozen=True, slots=True)
class DetectionFigures:
    """How well faces are found.

    Attributes
    ----------
    pictures
        Number of portraits searched; each shows one face that must be found.
    recall
        Share of the faces found, in [0, 1].
    false_positives
        Boxes that are no known face, per picture.
    landmark_error
        Mean distance between found and known landmarks of found faces, as a share of the distance between the
        eyes; NaN when none was found.
    """

    pictures: int
    recall: float
    false_positives: float
    landmark_error: float


def _overlap(found: Floats, known: Floats) -> float:
    inner = np.minimum(found[2:], known[2:]) - np.maximum(found[:2], known[:2])
    shared = float(np.prod(np.maximum(inner, 0)))
    return shared / float(np.prod(found[2:] - found[:2]) + np.prod(known[2:] - known[:2]) - shared)


def _best(faces: Sequence[Face], known: Floats) -> Face | None:
    matching = [face for face in faces if _overlap(face.box, known) >= MATCHED]
    return max(matching, key=lambda face: _overlap(face.box, known), default=None)


def detection(analyser: InsightFaceAnalyser, portraits: Sequence[Portrait]) -> DetectionFigures:
    """Recall, false positives and landmark error over portraits of one face each."""
    found = 0
    extra = 0
    errors = []
    for portrait in portraits:
        faces = analyser.find(portrait.image)
        best = _best(faces, portrait.box)
        extra += len(faces) - (best is not None)
        if best is None:
            continue
        found += 1
        apart = float(np.linalg.norm(portrait.landmarks[1] - portrait.landmarks[0]))
        errors.append(float(np.linalg.norm(best.landmarks - portrait.landmarks, axis=1).mean()) / apart)
    return DetectionFigures(
        pictures=len(portraits),
        recall=found / len(portraits),
        false_positives=extra / len(portraits),
        landmark_error=float(np.mean(errors)) if errors else float("nan"),
    )


def false_alarms(analyser: InsightFaceAnalyser, images: Sequence[Image]) -> float:
    """Boxes found per picture in pictures that show no face."""
    return sum(len(analyser.find(image)) for image in images) / len(images)


def close_up(portrait: Portrait) -> Portrait:
    """The portrait cut so that its face fills the picture and a little more: 1.1 times its side."""
    x0, y0, x1, y1 = (float(each) for each in portrait.box)
    half = max(x1 - x0, y1 - y0) / 2.2
    height, width = portrait.image.shape[:2]
    middle_x, middle_y = (x0 + x1) / 2, (y0 + y1) / 2
    left, top = max(0, round(middle_x - half)), max(0, round(middle_y - half))
    right, bottom = min(width, round(middle_x + half)), min(height, round(middle_y + half))
    shift = np.array([left, top], np.float32)
    image = np.ascontiguousarray(portrait.image[top:bottom, left:right])
    return Portrait(portrait.name, image, portrait.box - np.tile(shift, 2), portrait.landmarks - shift)


def recognition(analyser: InsightFaceAnalyser, portraits: Sequence[Portrait]) -> Calibration:
    """Error rates on portraits named ``<person>_<expression>``, aligned by the landmarks the detector finds.

    Where the detector finds nothing the known landmarks are taken, so that no picture is left out.
    """
    embeddings = []
    for portrait in portraits:
        face = _best(analyser.find(portrait.image), portrait.box)
        landmarks = portrait.landmarks if face is None else face.landmarks
        embeddings.append(analyser.embed(portrait.image, landmarks))
    return calibrate(np.stack(embeddings), [portrait.name.rpartition("_")[0] for portrait in portraits])
