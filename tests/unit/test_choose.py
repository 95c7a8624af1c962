"""Of several paintings, the most face-like one leaves the inpainter; the hidden pixels have no say in it."""

import numpy as np

from inference.choose import Choosy
from inference.contract import CLASSES, Face

SIDE = 16


class Painter:
    """Paints in the grey of its seed, so that a candidate can be told by its value."""

    size_px = SIDE

    def __init__(self):
        self.asked = []

    def inpaint(self, images, hide, prompts, seeds):
        self.asked.append(len(images))
        return np.stack([np.full((SIDE, SIDE, 3), seed // 1_000_003 * 40 + 10, np.uint8) for seed in seeds])


class Segmenter:
    """Is surest of an eye where a picture's middle is nearest to ``likes``."""

    classes = CLASSES
    size_px = 32

    def __init__(self, likes):
        self.likes = likes

    def segment(self, images):
        answer = np.full((len(images), len(CLASSES), 32, 32), 0.01, np.float32)
        sure = 1 - np.abs(images[:, 16, 16, 0].astype(np.float32) - self.likes) / 255
        answer[:, CLASSES.index("eye")] = sure[:, None, None]
        return answer


class Faces:
    """Finds a face where a picture's middle is brighter than ``least``."""

    def __init__(self, least=256):
        self.least = least

    def find(self, image, *, thorough=False, doubtful=False):
        if image[128, 128, 0] < self.least:
            return []
        return [Face(np.zeros(4, np.float32), np.zeros((5, 2), np.float32), 0.9)]

    def embed(self, image, landmarks):
        raise AssertionError("nobody is compared here")


def choosy(segmenter, faces, candidates=4):
    return Choosy(Painter(), candidates, segmenter, faces, ("eye", "nose"))


def picture(draw=0):
    return np.random.default_rng(draw).integers(0, 256, (1, SIDE, SIDE, 3), dtype=np.uint8)


MASK = np.zeros((1, SIDE, SIDE), bool)
MASK[:, 4:12, 4:12] = True


def test_the_candidate_of_which_the_segmenter_is_surest_is_taken():
    for wanted in (10, 50, 90, 130):
        painted = choosy(Segmenter(wanted), Faces()).inpaint(picture(), MASK, ["a"], [0])
        assert painted[0, 8, 8, 0] == wanted


def test_a_face_that_the_detector_finds_outweighs_one_that_it_does_not_find():
    painted = choosy(Segmenter(10), Faces(least=120)).inpaint(picture(), MASK, ["a"], [0])
    assert painted[0, 8, 8, 0] == 130


def test_hidden_pixels_do_not_decide():
    one, other = picture(), picture()
    other[MASK] = np.random.default_rng(9).integers(0, 256, other[MASK].shape)
    models = choosy(Segmenter(77), Faces(least=120))
    assert np.array_equal(models.inpaint(one, MASK, ["a"], [3]), models.inpaint(other, MASK, ["a"], [3]))


def test_every_picture_has_its_own_candidates():
    models = choosy(Segmenter(50), Faces())
    both = models.inpaint(np.concatenate([picture(1), picture(2)]), MASK.repeat(2, 0), ["a", "b"], [0, 5])
    assert both.shape == (2, SIDE, SIDE, 3)
    assert models.painter.asked == [4, 4]


def test_a_candidate_that_cannot_be_judged_is_the_last_choice():
    class Blind(Segmenter):
        def segment(self, images):
            answer = super().segment(images)
            answer[:2] = np.nan
            return answer

    painted = choosy(Blind(10), Faces()).inpaint(picture(), MASK, ["a"], [0])
    assert painted[0, 8, 8, 0] >= 90
