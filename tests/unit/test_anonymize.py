"""What must hold about pixels, with stand-in models and, for the way as a whole, with the nano bundle."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.anonymize import Given, MaskOptions, Plan, paint, plan, uncovered
from inference.crops import covering_crop, face_crop

NANO = Path(__file__).parents[2] / "bundles" / "nano"


class Echo:
    """An inpainter that gives back a function of everything it is shown: any leak shows in its output."""

    size_px = 32

    def inpaint(self, images, hide, prompts, seeds):
        out = []
        for image, mask, prompt, seed in zip(images, hide, prompts, seeds, strict=True):
            digest = hash((image.tobytes(), mask.tobytes(), prompt, seed)) % 2**32
            out.append(np.random.default_rng(digest).integers(0, 256, image.shape, dtype=np.uint8))
        return np.stack(out)


def _case(seed):
    draw = np.random.default_rng(seed)
    height, width = (int(v) for v in draw.integers(33, 240, 2))
    image = draw.integers(0, 256, (height, width, 3), dtype=np.uint8)
    hide = np.zeros((height, width), bool)
    for _ in range(draw.integers(1, 4)):
        y, x = draw.integers(0, height), draw.integers(0, width)
        hide[y : y + draw.integers(1, height), x : x + draw.integers(1, width)] = True
    keep = hide & (draw.random(hide.shape) < 0.2)
    hide &= ~keep
    landmarks = draw.uniform(0.2, 0.8, 2) * (width, height) + np.array(
        [[-10, -8], [10, -8], [0, 2], [-7, 12], [7, 12]]
    )
    crop = covering_crop(face_crop(landmarks.astype(np.float32), 32), hide, margin=0.05)
    return draw, image, Plan(hide, keep, np.zeros_like(hide), (crop,), (), True, ())


@given(seed=st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_outside_hide_the_output_is_the_input_bit_for_bit(seed):
    _, image, todo = _case(seed)
    result = paint(image, todo, Echo(), "a prompt", 3)
    assert np.array_equal(result[~todo.hide], image[~todo.hide])
    assert np.array_equal(result[todo.keep], image[todo.keep])


@given(seed=st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_what_stands_under_hide_has_no_influence_on_the_output(seed):
    draw, image, todo = _case(seed)
    other = image.copy()
    other[todo.hide] = draw.integers(0, 256, (int(todo.hide.sum()), 3), dtype=np.uint8)
    assert np.array_equal(paint(image, todo, Echo(), "a", 3), paint(other, todo, Echo(), "a", 3))


def test_prompt_and_seed_have_an_influence():
    _, image, todo = _case(5)
    first = paint(image, todo, Echo(), "a", 3)
    assert not np.array_equal(first, paint(image, todo, Echo(), "b", 3))
    assert not np.array_equal(first, paint(image, todo, Echo(), "a", 4))


def test_nothing_to_hide_leaves_the_picture_alone():
    _, image, todo = _case(6)
    untouched = replace(todo, hide=np.zeros_like(todo.hide))
    assert np.array_equal(paint(image, untouched, Echo(), "a", 3), image)


@pytest.fixture(scope="module")
def nano():
    from inference.local import load_models

    return load_models(NANO, threads=1)


@pytest.fixture(scope="module")
def astronaut():
    from skimage.data import astronaut

    return astronaut()


@pytest.mark.models
def test_a_portrait_gets_a_new_face_and_nothing_else(nano, astronaut):
    todo = plan(astronaut, nano, MaskOptions())
    assert len(todo.faces) == 1
    assert 0.02 < todo.hide.mean() < 0.12
    assert uncovered(astronaut, todo, nano) == 0
    result = paint(astronaut, todo, nano.inpainter, nano.prompts[""], 5)
    assert np.array_equal(result[~todo.hide], astronaut[~todo.hide])
    assert len(nano.faces.find(result)) == 1
    before = nano.faces.embed(astronaut, todo.faces[0].landmarks)
    after = nano.faces.embed(result, todo.faces[0].landmarks)
    assert float(before @ after) < nano.similarity_limit


@pytest.mark.models
def test_with_the_real_models_noise_under_hide_gives_the_same_face(nano, astronaut):
    todo = plan(astronaut, nano, MaskOptions())
    noisy = astronaut.copy()
    noisy[todo.hide] = np.random.default_rng(1).integers(0, 256, (int(todo.hide.sum()), 3), dtype=np.uint8)
    one = paint(astronaut, todo, nano.inpainter, "a face", 8)
    assert np.array_equal(one, paint(noisy, todo, nano.inpainter, "a face", 8))


@pytest.mark.models
def test_a_face_left_open_is_counted_as_uncovered(nano, astronaut):
    todo = plan(astronaut, nano, MaskOptions())
    half = todo.hide.copy()
    half[:, : int(todo.faces[0].landmarks[:, 0].mean())] = False
    assert uncovered(astronaut, replace(todo, hide=half), nano) > 100


@pytest.mark.models
def test_a_picture_without_a_face_has_nothing_to_hide(nano):
    from inference.phantom import skin_patch

    todo = plan(skin_patch(384, 0.4, 3), nano, MaskOptions())
    assert not todo.hide.any()
    assert not todo.faces


class Lipstick:
    """A segmenter that takes a mouth for a lesion more than for a mouth."""

    def __init__(self, segmenter):
        self.size_px, self.classes, self._segmenter = segmenter.size_px, segmenter.classes, segmenter

    def segment(self, images):
        told = self._segmenter.segment(images).copy()
        mouth, lesion, skin = (self.classes.index(name) for name in ("mouth", "lesion", "skin"))
        lips = told[:, mouth] > 0.3
        for name, probability in ((mouth, 0.2), (lesion, 0.6), (skin, 0.2)):
            told[:, name][lips] = probability
        return told


@pytest.mark.models
def test_what_may_be_lips_is_no_lesion_to_keep_wherever_the_landmarks_lie(nano, astronaut):
    found = plan(astronaut, nano, MaskOptions()).faces[0]
    mouth = found.landmarks[3:].mean(0).astype(int)
    lips = (slice(mouth[1] - 3, mouth[1] + 4), slice(mouth[0] - 4, mouth[0] + 5))
    away = found.landmarks.copy()
    away[3:, 0] += 30
    models = replace(nano, segmenter=Lipstick(nano.segmenter))
    faces = [replace(found, landmarks=away)]
    kept = [
        int(plan(astronaut, models, MaskOptions(lesion_over_features=rule), faces).keep[lips].sum())
        for rule in ("keep", "hide")
    ]
    assert kept[0] > 30
    assert kept[1] < 0.2 * kept[0]


class Rash:
    """A segmenter that sees a rash, surer to the left, all over what it takes for skin."""

    def __init__(self, segmenter):
        self.size_px, self.classes, self._segmenter = segmenter.size_px, segmenter.classes, segmenter

    def segment(self, images):
        told = self._segmenter.segment(images).copy()
        skin, lesion = (self.classes.index(name) for name in ("skin", "lesion"))
        sure = np.broadcast_to(np.linspace(0.99, 0.6, told.shape[-1], dtype=np.float32), told[:, skin].shape)
        rash = told[:, skin] > 0.5
        told[:, lesion][rash], told[:, skin][rash] = sure[rash], 1 - sure[rash]
        return told


@pytest.mark.models
def test_of_a_rash_over_the_whole_face_the_surest_part_is_kept(nano, astronaut):
    models = replace(nano, segmenter=Rash(nano.segmenter))
    found = plan(astronaut, nano, MaskOptions()).faces
    everything, part = (plan(astronaut, models, MaskOptions(keep_most=most), found) for most in (1.0, 0.2))
    hidden = int((everything.hide | everything.keep).sum())
    assert everything.keep.sum() > 0.25 * hidden
    assert 0.15 * hidden < part.keep.sum() < 0.21 * hidden
    assert not (part.keep & ~everything.keep).any()
    assert ((part.hide | part.keep) == (everything.hide | everything.keep)).mean() > 0.999
    columns = [np.nonzero(one.keep)[1].mean() for one in (part, everything)]
    assert columns[0] < columns[1]
    drawn = Given(keep=everything.keep)
    assert plan(astronaut, models, MaskOptions(keep_most=0.0), found, drawn).keep.sum() > 0.2 * hidden
    assert not plan(astronaut, models, MaskOptions(keep_most=0.0), found).keep.any()
