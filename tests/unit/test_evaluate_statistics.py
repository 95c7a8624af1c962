"""Areas, thresholds and intervals against what they mean."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.metrics import compute_roc_auc

from inference.evaluate.plots import curve
from inference.evaluate.statistics import auc, interval, mean, one_vs_rest, resamples, threshold_at

SCORES = st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=30)


@given(SCORES)
def test_the_area_is_the_chance_that_a_positive_scores_higher(pairs: list[tuple[int, bool]]) -> None:
    scores, positive = np.array([p[0] for p in pairs], float), np.array([p[1] for p in pairs])
    if positive.all() or not positive.any():
        assert np.isnan(auc(scores, positive))
        return
    apart = scores[positive][:, None] - scores[~positive][None]
    assert auc(scores, positive) == pytest.approx(float((apart > 0).mean() + 0.5 * (apart == 0).mean()))
    false, true = curve(scores, positive)
    assert auc(scores, positive) == pytest.approx(float(np.trapezoid(true, false)))


def test_the_area_is_monais() -> None:
    draw = np.random.default_rng(3)
    scores, positive = draw.random(60), draw.random(60) < 0.4
    theirs = compute_roc_auc(torch.from_numpy(scores), torch.from_numpy(positive.astype(int)))
    assert auc(scores, positive) == pytest.approx(float(theirs))


def test_a_class_that_does_not_occur_has_no_area_and_does_not_count() -> None:
    probabilities = np.array([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0], [0.6, 0.4, 0.0]])
    areas, overall = one_vs_rest(probabilities, [0, 1, 0])
    assert np.isnan(areas[2])
    assert overall == 1.0


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=200), st.sampled_from([0.01, 0.1, 0.5]))
def test_no_more_different_persons_than_allowed_reach_the_threshold(
    cosines: list[float], rate: float
) -> None:
    limit = threshold_at(np.array(cosines), rate)
    assert np.mean(np.array(cosines) >= limit) <= rate


def test_a_threshold_over_no_number_is_refused() -> None:
    for wrong in ([], [0.1, float("nan")]):
        with pytest.raises(ValueError, match="pairs"):
            threshold_at(np.array(wrong), 0.01)


def test_pictures_of_one_patient_are_drawn_together() -> None:
    for indices in resamples(["a", "a", "b", "b", "b"], 50):
        counts = np.bincount(indices, minlength=5)
        assert counts[0] == counts[1]
        assert len(set(counts[2:])) == 1


def test_an_interval_holds_its_value_and_narrows_with_more_patients() -> None:
    draw = np.random.default_rng(1)
    widths = []
    for count in (20, 400):
        values = draw.normal(0.5, 0.2, count)
        found = mean(values, [str(each) for each in range(count)])
        assert found.low < found.value < found.high
        widths.append(found.high - found.low)
    assert widths[1] < widths[0] / 2


def test_what_is_no_number_does_not_count_and_nothing_left_is_no_number() -> None:
    assert mean([1.0, float("nan")], ["a", "b"]).value == 1.0
    assert np.isnan(mean([float("nan")], ["a"]).value)
    assert np.isnan(interval(lambda _: float("nan"), resamples(["a"], 3), 1).low)
