"""Whatever the masks, the size of the picture and the faces in it: nothing hidden reaches the result, all else stays.

The stand-in painter answers with noise that hangs on every pixel, mask, word and seed it is shown: any influence of a
hidden pixel changes the whole painting.
"""

import hashlib

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from inference.anonymize import BLANK, Plan, paint
from inference.contract import Face
from inference.crops import crops_for, within

FACE = np.array([[-10, -8], [10, -8], [0, 2], [-7, 12], [7, 12]], np.float64)
"""Five landmarks, 20 pixels from the middle of the eyes to that of the mouth."""


class Echo:
    """Paints noise seeded by everything it is shown."""

    size_px = 32

    def inpaint(self, images, hide, prompts, seeds):
        painted = []
        for image, mask, prompt, seed in zip(images, hide, prompts, seeds, strict=True):
            shown = hashlib.sha256(image.tobytes() + mask.tobytes() + f"{prompt} {seed}".encode())
            noise = np.random.default_rng(int.from_bytes(shown.digest()[:8]))
            painted.append(noise.integers(0, 256, image.shape, dtype=np.uint8))
        return np.stack(painted)


def person(x, y, span, turn):
    """A face with the middle of its eyes at (x, y), its mouth ``span`` pixels away, turned by ``turn`` degrees."""
    angle = np.deg2rad(turn)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = ((FACE + np.array([0, 8])) @ rotation.T * (span / 20) + np.array([x, y])).astype(np.float32)
    box = np.concatenate([points.min(0) - span, points.max(0) + span]).astype(np.float32)
    return Face(box, points, 0.9)


def scene(height, width, faces, draw):
    """Noise of that size; what is hidden is a disc about each face, a stripe, single pixels, and not what is kept."""
    image = draw.integers(0, 256, (height, width, 3), dtype=np.uint8)
    ys, xs = np.ogrid[:height, :width]
    hide = np.zeros((height, width), bool)
    for face in faces:
        x, y = face.landmarks.mean(0)
        reach = 1.4 * float(np.hypot(*(face.landmarks[3:].mean(0) - face.landmarks[:2].mean(0))))
        hide |= (xs - x) ** 2 + (ys - y) ** 2 <= reach**2
    top, left = int(draw.integers(height)), int(draw.integers(width))
    hide[top : top + 3, left : left + int(draw.integers(1, width))] = True
    hide[draw.integers(height, size=2), draw.integers(width, size=2)] = True
    keep = np.zeros_like(hide)
    keep[:: int(draw.integers(2, 9)), :: int(draw.integers(2, 9))] = True
    keep &= hide
    hide &= ~keep
    crops = tuple(crops_for(hide, faces, Echo.size_px))
    return image, Plan(hide, keep, np.zeros_like(hide), crops, tuple(faces), True, ())


def check(image, todo, draw):
    """Bit-identity outside *hide*, non-interference under it, and a painter who leaves nothing of it unpainted."""
    one = paint(image, todo, Echo(), "a face", 3)
    assert one.shape == image.shape
    assert one.dtype == np.uint8
    outside = ~todo.hide
    assert np.array_equal(one[outside], image[outside])
    other = image.copy()
    other[todo.hide] = draw.integers(0, 256, (int(todo.hide.sum()), 3), dtype=np.uint8)
    assert np.array_equal(one, paint(other, todo, Echo(), "a face", 3))
    other[todo.hide] = 255 - image[todo.hide]
    assert np.array_equal(one, paint(other, todo, Echo(), "a face", 3))
    covered = np.zeros_like(todo.hide)
    for crop in todo.crops:
        covered |= within(crop, slice(0, image.shape[0]), slice(0, image.shape[1]))
    assert covered[todo.hide].all()


WHERE = st.floats(-0.1, 1.1)
"""As a share of a side: a face may lie at a border, and beyond it."""
LONG = st.floats(0.005, 0.9)
"""Eyes to mouth as a share of the shorter side: from a few pixels to faces that fill the picture and more."""


@given(
    height=st.integers(33, 320),
    width=st.integers(33, 320),
    people=st.lists(st.tuples(WHERE, WHERE, LONG, st.floats(-180, 180)), max_size=4),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=120, deadline=None)
def test_any_masks_sizes_and_faces_let_nothing_through_and_change_nothing_else(height, width, people, seed):
    faces = [person(x * width, y * height, long * min(height, width), turn) for x, y, long, turn in people]
    draw = np.random.default_rng(seed)
    check(*scene(height, width, faces, draw), draw)


def places(height, width):
    least = min(height, width)
    return {
        "inside": person(0.4 * width, 0.4 * height, 0.15 * least, 0),
        "at the border": person(width - 2, 0.1 * height, 0.2 * least, 25),
        "fills the picture": person(0.5 * width, 0.35 * height, 0.5 * least, 0),
        "tiny": person(0.7 * width, 0.6 * height, max(2.0, 0.004 * least), -70),
        "upside down": person(0.5 * width, 0.6 * height, 0.2 * least, 180),
    }


@pytest.mark.parametrize("where", ["inside", "at the border", "fills the picture", "tiny", "upside down"])
@pytest.mark.parametrize(("height", "width"), [(33, 41), (41, 33), (480, 640)])
def test_a_face_may_lie_anywhere_and_any_way(height, width, where):
    draw = np.random.default_rng(height + width)
    check(*scene(height, width, [places(height, width)[where]], draw), draw)


@pytest.mark.parametrize(("height", "width"), [(2000, 3000), (4000, 6000), (6000, 4000)])
def test_the_largest_photographs_are_no_exception(height, width):
    draw = np.random.default_rng(height + width)
    faces = places(height, width)
    check(*scene(height, width, [faces["at the border"], faces["tiny"], faces["upside down"]], draw), draw)


@given(height=st.integers(33, 200), width=st.integers(33, 200), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_random_speckle_is_hidden_like_anything_else(height, width, seed):
    draw = np.random.default_rng(seed)
    image = draw.integers(0, 256, (height, width, 3), dtype=np.uint8)
    hide = draw.random((height, width)) < draw.uniform(0.0005, 0.9)
    assume(hide.any())
    faces = [person(width / 2, height / 3, min(height, width) / 4, float(draw.uniform(-180, 180)))]
    crops = tuple(crops_for(hide, faces, Echo.size_px))
    assume(len(crops) <= 40)  # speckle far from every face is painted spot by spot
    check(image, Plan(hide, hide & False, hide & False, crops, tuple(faces), True, ()), draw)


def test_a_painter_who_is_shown_a_hidden_pixel_would_be_noticed():
    """The check of this page fails where blanking is left out."""
    draw = np.random.default_rng(5)
    image, todo = scene(60, 80, [person(40, 20, 15, 0)], draw)

    class Leak(Echo):
        def inpaint(self, images, hide, prompts, seeds):
            return super().inpaint(
                np.stack([crop.take(self.original) for crop in todo.crops]), hide, prompts, seeds
            )

    leak = Leak()
    leak.original = image
    one = paint(image, todo, leak, "a face", 3)
    leak.original = np.where(todo.hide[..., None], BLANK, image).astype(np.uint8)
    assert not np.array_equal(one, paint(image, todo, leak, "a face", 3))
