"""The commands that judge close-ups and negative controls: few pictures, and that what must not leave is noticed."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "benchmarks"))

import close_ups  # noqa: E402
import controls  # noqa: E402
import held_back  # noqa: E402

from gateway.redact import Redacted, Redactor  # noqa: E402
from inference.anonymize import MaskOptions, plan  # noqa: E402
from inference.blend import erased  # noqa: E402
from inference.inpaint.data import read_image  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")


def redacted(hide, **what):
    """What a treatment would say of a picture in which this was painted over."""
    nothing = np.zeros_like(hide)
    found = {"faces": 0, "features": False, "uncovered_pixels": 0, "doubtful": 0, "similarity": None} | what
    return Redacted(
        frames=np.zeros((*hide.shape, 3), np.uint8), hide=hide, keep=nothing, written=nothing,
        similarity_limit=0.5, attempts=1, **found,
    )  # fmt: skip


class Careless:
    """In the place of the redactor: sees nothing, or paints over half of a picture."""

    class models:  # noqa: N801 - stands for an attribute
        prompts = {"": ""}  # noqa: RUF012 - never changed

    def __init__(self, *, half):
        self.half = half

    def redact(self, frames, _prompt, _seed):
        hide = np.zeros(frames.shape[:3], bool)
        hide[:, :, : frames.shape[2] // 2] = self.half
        return redacted(hide, **({"faces": 1, "similarity": 0.1} if self.half else {}))


@pytest.mark.parametrize("half", [False, True])
def test_a_feature_that_would_leave_unpainted_is_a_violation(half):
    label = np.zeros((64, 64), np.uint8)
    label[20:40, 20:44] = close_ups.PARTS["eye"]
    found = close_ups.judged(Careless(half=half), np.zeros((64, 64, 3), np.uint8), label, 0, 0.95)
    assert found["end"] == close_ups.SHOWN
    assert found["least_hidden"] == pytest.approx(0.5 if half else 0)


def test_a_picture_without_features_may_leave_untouched():
    label = np.zeros((64, 64), np.uint8)
    found = close_ups.judged(Careless(half=False), np.zeros((64, 64, 3), np.uint8), label, 0, 0.95)
    assert found["end"] == "released, no feature in it"


@pytest.fixture(scope="module")
def nano():
    from inference.local import load_models

    return load_models(ROOT / "bundles" / "nano", threads=1)


@pytest.fixture(scope="module")
def london(shared):
    return close_ups.people(shared, "london")


@pytest.mark.models
def test_close_ups_of_strangers_leave_with_every_feature_painted_over_or_wait(nano, london):
    redactor = Redactor(nano, MaskOptions(), attempts=1)
    for index, (picture, labels) in enumerate(london[::21]):
        draw = np.random.default_rng([7, index])
        near = close_ups.close_up(read_image(picture), read_image(labels)[..., 0], draw, (1.5, 6))
        assert close_ups.judged(redactor, *near, index, 0.95)["end"] != close_ups.SHOWN


@pytest.mark.models
def test_half_a_dark_face_waits_and_drawn_skin_as_dark_leaves_untouched(nano, london):
    """The segmentation is least sure of dark skin: weak signs of an eye, a nose and a mouth have to be enough."""
    from gateway.demo import scenes

    redactor = Redactor(nano, MaskOptions(), attempts=1)
    picture, labels = london[59]
    draw = np.random.default_rng([3, 59])
    near = close_ups.close_up(read_image(picture), read_image(labels)[..., 0], draw, (1.5, 6))
    assert close_ups.judged(redactor, *near, 59, 0.95)["end"] == "unverified"
    skin = scenes.bare_skin("acne", tone=0.8, seed=9).image
    done = redactor.redact(skin[None], "", 1)
    assert close_ups.outcome(done) == "released"
    assert np.array_equal(done.frames[0], skin)


@pytest.fixture(scope="module")
def verified(nano, shared):
    """The bundle with the shared pack as its face pack, at the limit of the field notes."""
    from inference.faces.analyser import InsightFaceAnalyser

    models = replace(nano, faces=InsightFaceAnalyser(shared / controls.PACK), similarity_limit=0.42)
    return Redactor(models, MaskOptions(), attempts=1)


@pytest.mark.models
def test_blur_and_bar_in_the_place_of_the_painter_are_recognised(verified, london):
    for file, _ in london[:80:40]:
        for row in controls.controlled(verified, file.stem, read_image(file)):
            if row["control"] in ("blur", "bar"):
                assert row["similarity"] >= 0.42, row
                assert row["end"] == "similarity", row


@pytest.mark.models
def test_the_verifier_does_not_stop_everything(verified, london, monkeypatch):
    """Where the face is wiped away, the same gates let the picture pass."""
    image = read_image(london[0][0])
    wiped = erased(image, plan(image, verified.models, MaskOptions()).hide)
    monkeypatch.setattr(controls, "CONTROLS", {"wiped": lambda _image, _faces: wiped})
    (row,) = controls.controlled(verified, "wiped", image)
    assert row["similarity"] < 0.42
    assert row["end"] == "released"


@pytest.mark.models
def test_a_face_that_no_detector_finds_never_leaves_by_that(nano, london):
    for file, _ in london[:80:40]:
        assert controls.unseen(Redactor(nano, MaskOptions(), attempts=1), read_image(file)) == "unverified"


@pytest.mark.models
def test_held_back_portraits_leave_as_strangers_to_another_recogniser_too_or_wait(nano, verified, shared):
    judge, work = verified.models.faces, Redactor(nano, MaskOptions(), attempts=6)
    for index, (picture, labels) in enumerate(close_ups.people(shared, "portraits")[:2]):
        found = held_back.measured(work, judge, read_image(picture), read_image(labels)[..., 0], index)
        assert found["outside_identical"]
        assert found["kept_identical"]
        assert not found["passed"] or found["independent_cosine"] < 0.35


def test_a_result_that_the_other_recogniser_knows_is_counted():
    row = dict.fromkeys(("outside_identical", "kept_identical", "faces_by_scrfd", "attempts"), 1)
    row |= dict.fromkeys(("seam_delta_e", "feature_recall", "seconds", "lesion_kept"), 1.0)
    row |= {"passed": True, "end": "released"}
    cosines = (0.4, 0.2, float("nan"), None)
    told = held_back.summary([row | {"independent_cosine": cosine} for cosine in cosines])
    assert told["passed_at_or_above_0.35"] == 2
    assert told["passed_without_independent_cosine"] == 1
