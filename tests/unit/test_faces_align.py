import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.faces import align


@given(
    angle=st.floats(-np.pi, np.pi),
    scale=st.floats(0.05, 20),
    shift=st.tuples(st.floats(-500, 500), st.floats(-500, 500)),
)
def test_a_turned_scaled_and_shifted_face_is_brought_back_upright(
    angle: float, scale: float, shift: tuple[float, float]
) -> None:
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    seen = (align.TEMPLATE @ turn.T + np.array(shift)).astype(np.float32)
    matrix = align.similarity(seen, align.TEMPLATE)
    back = seen @ matrix[:, :2].T + matrix[:, 2]
    np.testing.assert_allclose(back, align.TEMPLATE, atol=0.05)


def test_a_mirrored_face_is_not_mirrored_back() -> None:
    mirrored = align.TEMPLATE * np.array([-1, 1], np.float32)
    matrix = align.similarity(mirrored, align.TEMPLATE)
    assert np.linalg.det(matrix[:, :2]) > 0


@pytest.mark.filterwarnings("ignore")
def test_the_alignment_is_the_one_of_insightface() -> None:
    from insightface.utils.face_align import estimate_norm

    rng = np.random.default_rng(3)
    for _ in range(20):
        landmarks = (align.TEMPLATE * rng.uniform(0.5, 5) + rng.normal(0, 4, (5, 2))).astype(np.float32)
        np.testing.assert_allclose(
            align.similarity(landmarks, align.TEMPLATE), estimate_norm(landmarks), atol=1e-3, rtol=1e-3
        )


@pytest.mark.parametrize(
    "landmarks",
    [
        np.full((5, 2), np.nan, np.float32),
        np.full((5, 2), 7, np.float32),
        np.zeros((4, 2), np.float32),
        np.array([[np.inf, 0], [1, 0], [0, 1], [1, 1], [2, 2]], np.float32),
    ],
)
def test_landmarks_that_cannot_be_aligned_are_an_error(landmarks: np.ndarray) -> None:
    with pytest.raises(ValueError, match="landmarks must"):
        align.similarity(landmarks, align.TEMPLATE)


def test_the_share_of_the_crop_inside_the_picture_is_told() -> None:
    assert align.covered(112, 112, align.TEMPLATE) == 1.0
    assert align.covered(112, 56, align.TEMPLATE) == pytest.approx(0.5, abs=0.03)
    assert align.covered(112, 112, align.TEMPLATE + 1000) == 0.0
