"""Lesions are painted where they may be, look like their disease, and their mask tells the truth."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.contract import DISEASES
from inference.phantom import paint, skin_patch

SIZE = 96
SKIN = skin_patch(SIZE, 0.2, 1)
ANYWHERE = np.ones((SIZE, SIZE), np.bool_)


def face() -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """A patch of skin with the outline of a face: oval, eyes, brows, nose, mouth."""
    size = 256
    ys, xs = np.mgrid[0:size, 0:size]
    oval = ((xs - 128) / 90) ** 2 + ((ys - 128) / 115) ** 2 < 1

    def spots(*centres: tuple[int, int], rx: int, ry: int) -> np.ndarray:
        return np.any([((xs - x) / rx) ** 2 + ((ys - y) / ry) ** 2 < 1 for x, y in centres], axis=0)

    regions = {
        "eye": spots((93, 105), (163, 105), rx=14, ry=6),
        "brow": spots((93, 85), (163, 85), rx=20, ry=5),
        "nose": spots((128, 140), rx=14, ry=22),
        "mouth": spots((128, 180), rx=28, ry=9),
    }
    skin = oval & ~regions["eye"] & ~regions["mouth"]
    return skin_patch(size, 0.15, 3), skin, regions


@settings(max_examples=40, deadline=None)
@given(
    disease=st.sampled_from(DISEASES),
    seed=st.integers(0, 2**31),
    severity=st.floats(0, 1),
    tone=st.floats(0, 1),
    box=st.tuples(st.integers(0, 80), st.integers(0, 80), st.integers(1, 96), st.integers(1, 96)),
    scale=st.one_of(st.none(), st.floats(0.3, 8)),
)
def test_outside_the_lesion_every_pixel_is_the_original(
    disease: str, seed: int, severity: float, tone: float, box: tuple[int, int, int, int], scale: float | None
) -> None:
    image = skin_patch(SIZE, tone, 5)
    before = image.copy()
    x, y, width, height = box
    skin = np.zeros((SIZE, SIZE), np.bool_)
    skin[y : y + height, x : x + width] = True
    painted = paint(image, skin, disease, seed, severity=severity, pixels_per_mm=scale)
    assert np.array_equal(image, before), "the argument itself was painted on"
    assert np.array_equal(painted.image[~painted.lesion], before[~painted.lesion])
    assert not (painted.lesion & ~skin).any()
    assert painted.image.dtype == np.uint8
    assert painted.lesion.dtype == np.bool_


@pytest.mark.parametrize("disease", DISEASES)
def test_a_lesion_is_visible_nearly_everywhere_its_mask_says(disease: str) -> None:
    image, skin, regions = face()
    painted = paint(image, skin, disease, 4, regions=regions, severity=0.7)
    assert painted.lesion.sum() > 150
    changed = np.abs(painted.image.astype(int) - image).max(axis=2)
    assert (changed[painted.lesion] >= 2).mean() > 0.93
    assert np.median(changed[painted.lesion]) > 8


@pytest.mark.parametrize("disease", DISEASES)
def test_the_same_seed_paints_the_same_and_another_seed_something_else(disease: str) -> None:
    one, same, other = (paint(SKIN, ANYWHERE, disease, seed, pixels_per_mm=1.5) for seed in (8, 8, 9))
    assert np.array_equal(one.image, same.image)
    assert np.array_equal(one.lesion, same.lesion)
    assert not np.array_equal(one.lesion, other.lesion)


def test_every_disease_of_the_contract_can_be_painted_and_no_other() -> None:
    with pytest.raises(ValueError, match="unknown disease"):
        paint(SKIN, ANYWHERE, "eczema of the gateway", 1)


def test_skin_that_is_nowhere_stays_healthy() -> None:
    painted = paint(SKIN, ~ANYWHERE, "acne", 1)
    assert np.array_equal(painted.image, SKIN)
    assert not painted.lesion.any()


def test_severity_outside_of_its_range_is_refused_even_as_nan() -> None:
    for severity in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="severity"):
            paint(SKIN, ANYWHERE, "acne", 1, severity=severity)


def test_inflamed_skin_is_redder_than_the_skin_around_it_on_fair_and_on_dark_skin() -> None:
    for tone in (0.1, 0.9):
        skin = skin_patch(SIZE, tone, 2)
        painted = paint(skin, ANYWHERE, "rosacea", 3, severity=0.9)
        inside = painted.image[painted.lesion].astype(float)
        before = skin[painted.lesion].astype(float)
        redness = inside[:, 0] / inside.sum(axis=1) - before[:, 0] / before.sum(axis=1)
        assert redness.mean() > 0.02


def test_psoriatic_scale_is_whiter_than_skin_and_seborrheic_scale_is_yellow() -> None:
    plaque = paint(SKIN, ANYWHERE, "psoriasis", 2, severity=0.9, pixels_per_mm=3.0)
    bright = plaque.lesion & (plaque.image.min(axis=2) > np.percentile(SKIN.min(axis=2), 95))
    assert bright.sum() > 20
    greasy = paint(SKIN, ANYWHERE, "seborrheic dermatitis", 2, severity=0.9, pixels_per_mm=1.5)
    blueness = (greasy.image[..., 2] / greasy.image.sum(axis=2)) - (SKIN[..., 2] / SKIN.sum(axis=2))
    assert np.percentile(blueness[greasy.lesion], 10) < -0.02


def test_rosacea_sits_in_the_middle_of_the_face_whichever_way_the_face_is_turned() -> None:
    image, skin, regions = face()
    for turns in range(4):
        turned = {name: np.rot90(mask, turns) for name, mask in regions.items()}
        painted = paint(np.rot90(image, turns).copy(), np.rot90(skin, turns), "rosacea", 6, regions=turned)
        back = np.rot90(painted.lesion, -turns)
        assert back[115:165, 60:196].mean() > 3 * back[10:60, 60:196].mean()


def test_seborrheic_dermatitis_sits_at_brows_and_nasolabial_folds() -> None:
    image, skin, regions = face()
    lesion = paint(image, skin, "seborrheic dermatitis", 6, regions=regions).lesion
    folds = np.zeros_like(skin)
    folds[135:180, 85:115] = folds[135:180, 141:171] = True
    cheeks = np.zeros_like(skin)
    cheeks[130:170, 45:65] = cheeks[130:170, 191:211] = True
    assert lesion[folds].mean() > 3 * lesion[cheeks].mean()
    assert lesion[regions["brow"]].mean() > 0.2


def test_a_portrait_is_painted_within_the_time_a_training_loop_allows() -> None:
    image, skin, regions = face()
    spent = []
    for seed in range(6):
        began = time.process_time()
        paint(image, skin, DISEASES[seed % 5], seed, regions=regions)
        spent.append(time.process_time() - began)
    assert np.median(spent) < 0.1


def test_skin_patches_differ_by_tone_and_seed_and_refuse_nonsense() -> None:
    fair, dark = skin_patch(64, 0.0, 1), skin_patch(64, 1.0, 1)
    assert fair.shape == (64, 64, 3)
    assert fair.mean() > dark.mean() + 60
    assert not np.array_equal(fair, skin_patch(64, 0.0, 2))
    assert np.array_equal(fair, skin_patch(64, 0.0, 1))
    for size, tone in ((8, 0.5), (64, 1.5), (64, float("nan"))):
        with pytest.raises(ValueError, match="must be at least"):
            skin_patch(size, tone, 1)
