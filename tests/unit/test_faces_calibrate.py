import json

import numpy as np
import pytest

from inference.faces.calibrate import calibrate, pairs


def _at(*degrees: float) -> np.ndarray:
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def test_two_persons_far_apart_have_no_errors_and_a_threshold_above_every_impostor() -> None:
    found = calibrate(_at(0, 10, 90, 100), ["a", "a", "b", "b"])
    assert found.genuine.count == 2
    assert found.impostor.count == 4
    assert found.eer == 0.0
    highest = np.cos(np.radians(80))
    for point in found.points:
        assert highest < point.threshold <= np.cos(np.radians(10)) + 1e-6
        assert point.true_accept_rate == 1.0


def test_the_equal_error_rate_equals_the_one_computed_by_hand() -> None:
    # Genuine: 0-10 (.985), 40-100 (.5). Impostors: 0-40 (.766), 0-100 (-.174), 10-40 (.866), 10-100 (0).
    # At a threshold of .766 half of the genuine pairs are rejected and half of the impostors accepted.
    found = calibrate(_at(0, 10, 40, 100), ["a", "a", "b", "b"])
    assert found.eer == pytest.approx(0.5)
    assert found.eer_threshold == pytest.approx(np.cos(np.radians(40)), abs=1e-6)
    assert found.impostor.most == pytest.approx(np.cos(np.radians(30)), abs=1e-6)
    assert found.genuine.least == pytest.approx(0.5, abs=1e-6)


def test_a_threshold_keeps_its_false_accept_rate_on_the_pairs_seen() -> None:
    rng = np.random.default_rng(1)
    persons = [str(each // 2) for each in range(300)]
    vectors = rng.normal(size=(150, 16)).repeat(2, axis=0) + rng.normal(0, 0.7, (300, 16))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    found = calibrate(vectors, persons)
    genuine, impostor = pairs(vectors, persons)
    for point in found.points:
        assert (impostor >= point.threshold).mean() <= point.false_accept_rate
        assert (genuine >= point.threshold).mean() == pytest.approx(point.true_accept_rate)
    below = np.nextafter(found.threshold_at(1e-2), -1)
    at_least = impostor[impostor >= below]
    assert len(at_least) >= 1
    with pytest.raises(KeyError, match=r"0\.5"):
        found.threshold_at(0.5)


@pytest.mark.parametrize(
    ("embeddings", "persons", "said"),
    [
        (_at(0, 10), ["a", "a"], "different persons"),
        (_at(0, 10), ["a", "b"], "one person"),
        (_at(0, 10), ["a"], "one embedding"),
        (_at(0, 10, 20) * 2, ["a", "a", "b"], "unit length"),
        (np.full((3, 2), np.nan, np.float32), ["a", "a", "b"], "finite"),
    ],
)
def test_embeddings_that_cannot_be_compared_are_an_error(
    embeddings: np.ndarray, persons: list[str], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        calibrate(embeddings, persons)


def test_a_calibration_can_be_written_as_json() -> None:
    found = calibrate(_at(0, 10, 90, 100), ["a", "a", "b", "b"])
    assert json.loads(json.dumps(found.as_dict()))["impostor"]["count"] == 4
