"""Verification: whatever could not be compared, or is no number, never passes as unlike."""

from dataclasses import replace

import numpy as np
import pytest

from gateway.errors import Held, Postponed
from gateway.instance import Evidence
from gateway.redact import Redacted, Redactor
from gateway.release import similarity
from inference.anonymize import Given, MaskOptions, search
from inference.contract import CLASSES, Face, Models, Unavailable, Verifier

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
    def __init__(self, found, vectors, doubted=()):
        self.found, self.vectors, self.doubted = found, list(vectors), doubted

    def find(self, image, *, thorough=False, doubtful=False):
        if not doubtful:
            return list(self.found)
        seen, self.doubted = self.doubted, ()  # the look at the mirror image shows nothing more
        return list(seen)

    def embed(self, image, landmarks):
        vector = self.vectors.pop(0) if len(self.vectors) > 1 else self.vectors[0]
        if isinstance(vector, Exception):
            raise vector
        return np.asarray(vector, np.float32)


def redactor(faces, segmenter=None, second=None):
    features = ("brow", "eye", "nose", "mouth")
    roles = dict.fromkeys(CLASSES, "identity") | {"background": "context", "lesion": "lesion"}
    models = Models(
        "test",
        True,
        segmenter or Segmenter(),
        Inpainter(),
        faces,
        roles,
        features,
        0.5,
        {"": "a face"},
        second,
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
    assert redactor(faces).redact(PICTURE, "a", 1, [(other,)]).similarity == pytest.approx(1.0)


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


@pytest.mark.parametrize(("cosine", "limit", "decides"), [(0.6, 0.9, 0.3), (0.6, 0.7, 0.6), (0.2, 0.3, 0.2)])
def test_of_two_verifiers_the_strictest_decides(cosine, limit, decides):
    first = Faces([face()], [[1, 0], [0.3, np.sqrt(1 - 0.09)]])
    after = [cosine, np.sqrt(1 - cosine**2)]
    second = Verifier(Faces([face()], [[1, 0], after]), limit)
    done = redactor(first, second=second).redact(PICTURE, "a", 1)
    assert done.similarity == pytest.approx(decides)
    assert done.similarity_limit == (0.5 if decides == 0.3 else limit)


@pytest.mark.parametrize("vector", [[np.nan, np.nan], ValueError("cut off")])
def test_a_second_verifier_that_cannot_tell_holds(vector):
    first = Faces([face()], [[1, 0], [0, 1]])
    done = redactor(first, second=Verifier(Faces([face()], [[1, 0], vector]), 0.9)).redact(PICTURE, "a", 1)
    with pytest.raises(Held):
        similarity(Evidence(faces=1, similarity=done.similarity, similarity_limit=done.similarity_limit))


def test_what_may_be_another_face_is_counted_once_and_only_where_it_shows():
    coloured = np.full((1, SIDE, 4 * SIDE, 3), (200, 150, 130), np.uint8)
    near = face(50, 47, 42, 0.4)  # another guess at the face itself
    away, grey = face(300, 48, 60, 0.4), face(200, 48, 60, 0.4)
    coloured[:, :, 160:240] = (60, 90, 160)
    small = face(260, 20, 12, 0.4)
    models = Faces([face()], [[1, 0], [0, 1]], [near, away, grey, small])
    assert redactor(models, Segmenter(parts=())).redact(coloured, "a", 1).doubtful == 1
    hidden = Given(hide=np.ones(coloured.shape[1:3], bool))
    models = Faces([face()], [[1, 0], [0, 1]], [away])
    assert redactor(models, Segmenter(parts=())).redact(coloured, "a", 1, given=[hidden]).doubtful == 0


def test_given_masks_are_what_is_painted_and_kept():
    draw = np.random.default_rng(4)
    hide, keep = draw.random((2, SIDE, SIDE)) < 0.5
    models = Faces([face()], [[1, 0], [0, 1]])
    work = Redactor(redactor(models).models, MaskOptions(lesion_over_features="keep"), attempts=1)
    done = work.redact(PICTURE, "a", 1, given=[Given(hide, keep)])
    assert np.array_equal(done.hide[0], hide & ~keep)
    assert np.array_equal(done.keep[0], hide & keep)
    assert np.array_equal(done.frames[0][~done.hide[0]], PICTURE[0][~done.hide[0]])


def test_a_frame_hidden_by_a_person_where_no_face_is_found_makes_the_whole_object_unknown(monkeypatch):
    """The first frame's face was compared and is unlike; what lies under the second's mask was not."""
    hide = np.zeros((1, SIDE, SIDE), bool)
    hide[0, 30:60, 30:60] = True
    compared = Redacted(
        frames=PICTURE, hide=hide, keep=~hide & False, written=~hide & False, faces=1, features=True,
        uncovered_pixels=0, doubtful=0, similarity=0.1, similarity_limit=0.5, attempts=1,
    )  # fmt: skip
    drawn = replace(compared, faces=0, features=False, similarity=None)
    for second, expected in ((drawn, None), (replace(drawn, hide=~hide & False), 0.1)):
        answers = iter([compared, second])
        monkeypatch.setattr(Redactor, "_frame", lambda *_args, **_named: next(answers))  # noqa: B023
        frames = np.concatenate([PICTURE] * 2)
        assert redactor(Faces([], [[1, 0]])).redact(frames, "a", 1).similarity == expected


def test_a_given_keep_over_eyes_still_follows_the_rule():
    everything = np.ones((SIDE, SIDE), bool)
    models = Faces([face()], [[1, 0], [0, 1]])
    work = Redactor(redactor(models).models, MaskOptions(lesion_over_features="hold"), attempts=1)
    with pytest.raises(Held) as held:
        work.redact(PICTURE, "a", 1, given=[Given(keep=everything)])
    assert held.value.reason == "lesion-over-feature"


def test_given_masks_of_another_size_hold():
    models = Faces([face()], [[1, 0], [0, 1]])
    for given in ([Given(hide=np.ones((3, 3), bool))], []):
        with pytest.raises(Held) as held:
            redactor(models).redact(PICTURE, "a", 1, given=given)
        assert held.value.reason == "masks"


def test_text_is_gone_before_the_painter_looks():
    written = np.zeros(PICTURE.shape[:3], bool)
    written[:, 10:20, 5:60] = True
    noisy = PICTURE.copy()
    noisy[written] = np.random.default_rng(9).integers(0, 256, (int(written.sum()), 3), dtype=np.uint8)
    one, other = (
        redactor(Faces([face()], [[1, 0], [0, 1]])).redact(picture, "a", 1, written=written)
        for picture in (PICTURE, noisy)
    )
    assert np.array_equal(one.frames, other.frames)
    assert not (one.keep & written).any()
    assert np.array_equal(one.frames[~one.painted], PICTURE[~one.painted])


class Alike(Faces):
    """Finds one face; the paintings of PICTURE have one of these cosines after the other, wherever compared."""

    def __init__(self, *cosines):
        super().__init__([face()], [])
        self.cosines, self.compared = cosines, 0

    def embed(self, image, landmarks):
        if np.array_equal(image, PICTURE[0]):
            return np.array([1, 0], np.float32)
        cosine = self.cosines[min(self.compared // 2, len(self.cosines) - 1)]
        self.compared += 1  # twice a painting: at the original's landmarks, and where a face is found
        return np.array([cosine, np.sqrt(max(0.0, 1 - cosine**2))], np.float32)


def paintings(cosines, *, attempts, limit=0.5, second=None):
    work = redactor(Alike(*cosines), second=second)
    models = replace(work.models, similarity_limit=limit, similarity_margin=0.1)
    return replace(work, models=models, attempts=attempts).redact(PICTURE, "a", 1)


def test_a_painting_below_the_limit_is_improved_on_until_the_person_is_clearly_another():
    done = paintings([0.45, 0.42, 0.39, 0.1], attempts=6)
    assert done.similarity == pytest.approx(0.39)
    assert done.attempts == 3


def test_of_paintings_that_are_never_clear_the_least_similar_one_is_taken():
    done = paintings([0.49, 0.43, 0.47, 0.41, 0.46], attempts=5)
    assert done.similarity == pytest.approx(0.41)
    assert done.attempts == 5


def test_paintings_are_bounded_and_the_least_similar_one_is_told_where_all_are_recognised():
    done = paintings([0.9, 0.8, 0.7, 0.95], attempts=4)
    assert done.similarity == pytest.approx(0.7)
    assert 4 <= done.attempts <= 8


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_a_painting_whose_likeness_is_no_number_is_never_the_least_similar_one(number):
    done = paintings([number, 0.45, number], attempts=3)
    assert done.similarity == pytest.approx(0.45)


def test_a_limit_that_is_no_number_holds_whatever_the_likeness():
    done = paintings([0.1], attempts=2, limit=np.nan)
    with pytest.raises(Held):
        similarity(Evidence(faces=1, similarity=done.similarity, similarity_limit=done.similarity_limit))


def test_a_second_verifier_whose_limit_is_no_number_is_not_outvoted():
    done = paintings([0.1], attempts=2, second=Verifier(Alike(0.1), np.nan))
    with pytest.raises(Held):
        similarity(Evidence(faces=1, similarity=done.similarity, similarity_limit=done.similarity_limit))


def test_all_verifiers_have_to_be_sure_before_no_further_painting_is_tried():
    assert paintings([0.1], attempts=3).attempts == 1
    assert paintings([0.1], attempts=3, second=Verifier(Alike(0.1), 0.5)).attempts == 1
    assert paintings([0.1], attempts=3, second=Verifier(Alike(0.45), 0.5)).attempts == 3
    assert paintings([0.1], attempts=3, second=Verifier(Alike(0.45), 0.5, margin=0.01)).attempts == 1


def test_nothing_is_painted_twice_for_a_photograph_that_is_held_for_another_face():
    coloured = np.full((1, SIDE, 4 * SIDE, 3), (200, 150, 130), np.uint8)
    faces = Faces([face()], [[1, 0], [0.9, np.sqrt(1 - 0.81)]], [face(300, 48, 60, 0.4)])
    drawn = Given(hide=np.arange(4 * SIDE) < np.full((SIDE, 1), SIDE))
    done = replace(redactor(faces), attempts=5).redact(coloured, "a", 1, given=[drawn])
    assert (done.doubtful, done.attempts) == (1, 1)


@pytest.mark.parametrize(("found", "parts"), [([], ("eye", "nose", "mouth")), ([face()], ())])
def test_what_could_not_be_compared_is_blanked_instead_of_painted_and_holds(found, parts):
    """A close-up of features without a face, and a face whose landmarks nothing confirms: neither may pass."""

    class Never(Inpainter):
        def inpaint(self, images, hide, prompts, seeds):
            raise AssertionError("nothing is painted")

    work = redactor(Faces(found, [[1, 0]]), Segmenter(parts=parts))
    hidden = Given(hide=np.ones((SIDE, SIDE), bool))
    done = replace(work, models=replace(work.models, inpainter=Never())).redact(
        PICTURE, "a", 1, given=[hidden]
    )
    assert (done.similarity, done.attempts) == (None, 0)
    assert np.unique(done.frames).tolist() == [127]
    with pytest.raises(Held) as held:
        similarity(Evidence(faces=done.faces, features=done.features, hidden_pixels=int(done.hide.sum()),
                            similarity=done.similarity, similarity_limit=done.similarity_limit))  # fmt: skip
    assert held.value.reason == "unverified"
