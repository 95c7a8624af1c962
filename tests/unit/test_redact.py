"""Verification: whatever could not be compared, or is no number, never passes as unlike."""

import numpy as np
import pytest

from gateway.errors import Held, Postponed
from gateway.instance import Evidence
from gateway.redact import Redactor
from gateway.release import similarity
from inference.anonymize import MaskOptions, search
from inference.contract import CLASSES, Face, Models, Unavailable

SIDE = 96


def face(x=48.0, y=48.0, size=40.0, score=0.95):
    half = size / 2
    points = np.array([[-0.2, -0.2], [0.2, -0.2], [0, 0], [-0.15, 0.25], [0.15, 0.25]]) * size + (x, y)
    return Face(
        np.array([x - half, y - half, x + half, y + half], np.float32), points.astype(np.float32), score
    )


class Segmenter:
    classes = CLASSES
    size_px = 64

    def __init__(self, value=0.0, error=None, parts=("eye", "nose", "mouth")):
        self.value, self.error, self.parts = value, error, parts

    def segment(self, images):
        if self.error:
            raise self.error
        answer = np.zeros((len(images), len(CLASSES), 64, 64), np.float32)
        answer[:, 0] = 1 - self.value
        answer[:, CLASSES.index("skin")] = self.value
        answer[:, [CLASSES.index(name) for name in self.parts]] = 0.6
        return answer


class Inpainter:
    size_px = 32

    def inpaint(self, images, hide, prompts, seeds):
        return np.full_like(images, 90)


class Faces:
    def __init__(self, found, vectors):
        self.found, self.vectors = found, list(vectors)

    def find(self, image, *, thorough=False):
        return list(self.found)

    def embed(self, image, landmarks):
        vector = self.vectors.pop(0) if len(self.vectors) > 1 else self.vectors[0]
        if isinstance(vector, Exception):
            raise vector
        return np.asarray(vector, np.float32)


def redactor(faces, segmenter=None):
    features = ("brow", "eye", "nose", "mouth")
    roles = dict.fromkeys(CLASSES, "identity") | {"background": "context", "lesion": "lesion"}
    models = Models(
        "test", True, segmenter or Segmenter(), Inpainter(), faces, roles, features, 0.5, {"": "a face"}
    )
    return Redactor(models, MaskOptions(), attempts=1)


PICTURE = np.random.default_rng(0).integers(0, 256, (1, SIDE, SIDE, 3), dtype=np.uint8)


def test_the_largest_of_all_likenesses_decides():
    faces = Faces(
        [face()], [[1, 0], [0, 1], [0.6, 0.8]]
    )  # original, result at its landmarks, result where found
    assert redactor(faces).redact(PICTURE, "a", 1).similarity == pytest.approx(0.6)


def test_a_face_elsewhere_in_the_arrival_counts_too():
    faces = Faces([face()], [[1, 0], [0, 1]])
    other = np.array([0, 1], np.float32)
    assert redactor(faces).redact(PICTURE, "a", 1, [other]).similarity == pytest.approx(1.0)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_likeness_that_is_no_number_holds_wherever_it_stands(place):
    vectors = [[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0]]
    vectors[place] = [np.nan, np.nan]
    found = redactor(Faces([face()], vectors)).redact(PICTURE, "a", 1).similarity
    with pytest.raises(Held):
        similarity(Evidence(faces=1, similarity=found, similarity_limit=0.5))


def test_a_face_that_cannot_be_compared_leaves_the_likeness_unknown():
    faces = Faces([face()], [ValueError("cut off")])
    assert redactor(faces).redact(PICTURE, "a", 1).similarity is None


def test_a_frame_that_could_not_be_compared_makes_the_whole_object_unknown():
    faces = Faces([face()], [[1, 0], [0, 1], [0, 1], ValueError("cut off")])
    assert redactor(faces).redact(np.concatenate([PICTURE] * 2), "a", 1).similarity is None


def test_a_segmentation_that_is_no_number_ends_the_treatment():
    with pytest.raises(FloatingPointError):
        redactor(Faces([], [[1, 0]]), Segmenter(value=np.nan)).redact(PICTURE, "a", 1)


def test_models_that_are_away_postpone_wherever_they_are_asked():
    away = redactor(Faces([face()], [[1, 0]]), Segmenter(error=Unavailable()))
    with pytest.raises(Postponed):
        away.redact(PICTURE, "a", 1)
    with pytest.raises(Postponed):
        away.identities(PICTURE)


def test_two_looks_at_one_face_are_one_person():
    models = redactor(Faces([face(), face(50, 47, 42, 0.9)], [[1, 0]])).models
    assert len(search(PICTURE[0], models)) == 1


def test_a_confirmed_face_before_another_person_is_a_person_of_its_own():
    models = redactor(Faces([face(size=80), face(58, 66, 24, 0.9)], [[1, 0]])).models
    assert len(search(PICTURE[0], models)) == 2


def test_a_face_whose_landmarks_the_segmentation_does_not_confirm_compares_nothing():
    faces = Faces([face()], [[1, 0], [0, 1], [0, 1]])
    done = redactor(faces, Segmenter(parts=())).redact(PICTURE, "a", 1)
    assert done.faces == 1
    assert done.similarity is None
