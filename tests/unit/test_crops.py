"""Crops are upright similarity transforms that invert exactly and miss nothing that must be hidden."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.crops import covering_crop, face_crop

LANDMARKS = np.array([[40, 50], [80, 50], [60, 72], [46, 92], [74, 92]], np.float32)


def test_a_face_crop_is_upright_and_centred_below_the_eyes():
    crop = face_crop(LANDMARKS, 128)
    eyes, mouth = LANDMARKS[:2].mean(0), LANDMARKS[3:].mean(0)
    turned = np.stack([eyes, mouth]) @ crop.matrix[:, :2].T + crop.matrix[:, 2]
    assert turned[0, 0] == pytest.approx(63.5) == turned[1, 0]
    assert turned[1, 1] - turned[0, 1] == pytest.approx(128 / 3.2)


@given(angle=st.floats(-180, 180), scale=st.floats(0.2, 20))
@settings(max_examples=40, deadline=None)
def test_points_go_into_a_crop_and_back(angle, scale):
    turn = np.deg2rad(angle)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    crop = face_crop((LANDMARKS @ rotation.T * scale).astype(np.float32), 64)
    points = np.array([[0.0, 0.0], [63, 5], [12, 50]])
    there = crop.to_image(points)
    assert np.allclose(there @ crop.matrix[:, :2].T + crop.matrix[:, 2], points, atol=1e-3)


def test_coinciding_landmarks_are_refused():
    with pytest.raises(ValueError, match="coincide"):
        face_crop(np.zeros((5, 2), np.float32), 128)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_a_covering_crop_holds_the_whole_mask(seed):
    draw = np.random.default_rng(seed)
    mask = np.zeros((200, 180), bool)
    y, x = draw.integers(0, 150), draw.integers(0, 130)
    mask[y : y + draw.integers(1, 50), x : x + draw.integers(1, 50)] = True
    crop = covering_crop(face_crop(LANDMARKS, 128), mask, margin=0.05)
    ys, xs = np.nonzero(mask)
    inside = np.stack([xs, ys], 1) @ crop.matrix[:, :2].T + crop.matrix[:, 2]
    assert inside.min() >= 0
    assert inside.max() <= 127


@given(seed=st.integers(0, 10_000), scale=st.floats(0.3, 12))
@settings(max_examples=40, deadline=None)
def test_no_hidden_pixel_reaches_a_crop_outside_its_mask(seed, scale):
    draw = np.random.default_rng(seed)
    side = int(130 * scale) + 8
    image = draw.integers(0, 256, (side, side, 3), dtype=np.uint8)
    hide = np.zeros((side, side), bool)
    y, x = draw.integers(0, side // 2, 2)
    hide[y : y + side // 3, x : x + side // 4] = True
    other = image.copy()
    other[hide] = draw.integers(0, 256, (int(hide.sum()), 3), dtype=np.uint8)
    crop = face_crop(LANDMARKS * np.float32(scale), 64)
    outside = ~crop.take_mask(hide)
    assert np.array_equal(crop.take(image)[outside], crop.take(other)[outside])
