"""Everybody in a photograph is found once, and what only a part of a large one shows has to be confirmed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.contract import CLASSES, Face, Models
from inference.search import LEAST_TILED_PX, _parts, aligned, search

NANO = Path(__file__).parents[2] / "bundles" / "nano"
SIX = [
    [(761, 400), (804, 400), (775, 429), (767, 444), (805, 444)],
    [(496, 322), (546, 336), (514, 362), (485, 368), (531, 380)],
    [(83, 328), (124, 303), (118, 335), (114, 370), (149, 348)],
    [(917, 119), (948, 116), (920, 151), (935, 170), (962, 166)],
    [(1149, 325), (1195, 320), (1171, 344), (1157, 367), (1197, 363)],
    [(285, 206), (318, 190), (303, 224), (311, 245), (340, 231)],
]
"""Landmarks of the people in InsightFace's sample picture, found by a detector that is no part of the bundle."""


class Detector:
    """Sees a face of 60 pixels about the one white pixel of a picture, if the picture is small enough to show it."""

    def __init__(self, score=0.4):
        self.score = score

    def find(self, image, *, thorough=False, doubtful=False):
        if max(image.shape[:2]) >= LEAST_TILED_PX or not doubtful:
            return []
        spots = np.argwhere(image[..., 0] == 255)
        return [self.face(float(x), float(y)) for y, x in spots]

    def face(self, x, y):
        points = np.array([[-12, -12], [12, -12], [0, 0], [-9, 15], [9, 15]], np.float32) + np.float32((x, y))
        return Face(np.array([x - 30, y - 30, x + 30, y + 30], np.float32), points, self.score)


class Segmenter:
    """Sees eyes, nose and mouth everywhere, or nowhere."""

    classes = CLASSES
    size_px = 64

    def __init__(self, sees, parts=("eye", "nose", "mouth")):
        self.sees, self.parts = sees, parts

    def segment(self, images):
        answer = np.zeros((len(images), len(CLASSES), 64, 64), np.float32)
        answer[:, [CLASSES.index(name) for name in self.parts]] = self.sees
        return answer


def models(sees=0.9, score=0.4):
    roles = dict.fromkeys(CLASSES, "identity")
    features = ("brow", "eye", "nose", "mouth")
    return Models("test", True, Segmenter(sees), None, Detector(score), roles, features, 0.5, {"": "a face"})


def photograph(height, width, x, y):
    image = np.zeros((height, width, 3), np.uint8)
    image[y, x] = 255
    return image


@given(height=st.integers(33, 5000), width=st.integers(33, 5000))
@settings(max_examples=200, deadline=None)
def test_the_parts_of_a_large_picture_cover_it_and_a_small_one_has_none(height, width):
    parts = list(_parts(height, width))
    assert bool(parts) == (max(height, width) >= LEAST_TILED_PX)
    for length, axis in ((width, 0), (height, 1)):
        seen = np.zeros(length, bool)
        for part in parts:
            seen[part[axis] : part[axis] + part[2]] = True
        assert seen.all() or not parts
    assert all(left >= 0 and top >= 0 for left, top, _ in parts)


@pytest.mark.parametrize(("x", "y"), [(50, 50), (700, 480), (1500, 40), (1560, 1160), (640, 1130)])
def test_a_person_far_away_is_found_once_and_where_it_is(x, y):
    (found,) = search(photograph(1200, 1600, x, y), models())
    assert np.allclose(found.landmarks[2], (x, y), atol=1)
    assert np.allclose(found.box, [x - 30, y - 30, x + 30, y + 30], atol=1)


@pytest.mark.parametrize("score", [0.4, 0.99])
def test_what_a_part_shows_is_nobody_unless_the_segmentation_sees_a_face_there(score):
    assert search(photograph(1200, 1600, 700, 500), models(sees=0.2, score=score)) == []


@pytest.mark.parametrize("unseen", ["eye", "nose", "mouth"])
def test_a_face_of_which_one_landmark_lies_elsewhere_is_not_compared(unseen):
    picture, face = photograph(100, 100, 50, 50), Detector().face(50.0, 50.0)
    everything = models()
    assert aligned(picture, [face], everything)
    parts = [name for name in ("eye", "nose", "mouth") if name != unseen]
    assert not aligned(picture, [face, face], replace(everything, segmenter=Segmenter(1.0, parts)))


def test_a_landmark_under_a_lesion_is_not_refuted():
    picture, face = photograph(100, 100, 50, 50), Detector().face(50.0, 50.0)
    roles = dict.fromkeys(CLASSES, "identity") | {"lesion": "lesion"}
    for parts, expected in (
        (("eye", "nose", "lesion"), True),
        (("nose", "mouth", "lesion"), True),
        (("lesion",), False),
    ):
        seen = replace(models(), segmenter=Segmenter(1.0, parts), roles=roles)
        assert aligned(picture, [face], seen) == expected, parts


@pytest.mark.models
def test_every_one_of_the_six_people_in_the_sample_picture_is_hidden():
    insightface = pytest.importorskip("insightface.data")
    from inference.anonymize import MaskOptions, plan
    from inference.local import load_models
    from inference.regions import landmark_features

    picture = np.ascontiguousarray(insightface.get_image("t1")[:, :, ::-1])
    todo = plan(picture, load_models(NANO, threads=1), MaskOptions())
    assert len(todo.faces) == 6
    for points in SIX:
        face = Face(np.zeros(4, np.float32), np.array(points, np.float32), 1.0)
        for name, mask in landmark_features(face, 1.0, *picture.shape[:2]).items():
            assert (todo.hide | todo.keep)[mask].mean() == 1, (points, name)
            assert todo.hide[mask].mean() >= 0.9, (
                points,
                name,
            )  # the rest is skin taken for a lesion beside it
