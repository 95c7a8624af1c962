"""Figures with their uncertainty: areas under curves, thresholds, and intervals by resampling patients.

Shape letters: N pictures, K classes, B resamples.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

RESAMPLES = 1000
COVERAGE = 0.95

Values = NDArray[np.float64]
Indices = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure and the interval in which it lies with a probability of 95 %.

    Attributes
    ----------
    value
        NaN where there is nothing to measure.
    low, high
        Ends of the percentile bootstrap interval over patients; equal to ``value`` where it was not resampled.
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def auc(scores: Values, positive: NDArray[np.bool_]) -> float:
    """Area under the ROC curve: the chance that a positive scores higher (Mann and Whitney, 1947); NaN without both."""
    wanted, total = int(positive.sum()), len(positive)
    if wanted in (0, total):
        return float("nan")
    ranks = rankdata(scores)
    return float((ranks[positive].sum() - wanted * (wanted + 1) / 2) / (wanted * (total - wanted)))


def one_vs_rest(probabilities: NDArray[np.floating], named: Sequence[int]) -> tuple[Values, float]:
    """Area under the curve of each class against the rest, float64 (K,), and their mean over the classes that occur.

    Parameters
    ----------
    probabilities
        (N, K).
    named
        The true class of each picture, N indices in [0, K).
    """
    truth = np.asarray(named)
    areas = np.array(
        [auc(np.asarray(probabilities[:, k], np.float64), truth == k) for k in range(probabilities.shape[1])]
    )
    return areas, float(np.nanmean(areas)) if np.isfinite(areas).any() else float("nan")


def resamples(patients: Sequence[str], count: int = RESAMPLES, seed: int = 0) -> list[Indices]:
    """``count`` drawings of as many patients with replacement, each as the indices of their pictures."""
    names, owner = np.unique(np.asarray(patients), return_inverse=True)
    pictures = [np.flatnonzero(owner == index) for index in range(len(names))]
    draw = np.random.default_rng(seed)
    return [
        np.concatenate([pictures[index] for index in draw.integers(len(names), size=len(names))])
        for _ in range(count)
    ]


def interval(statistic: Callable[[Indices], float], drawings: Sequence[Indices], pictures: int) -> Figure:
    """A statistic of all pictures with its percentile bootstrap interval (Efron and Tibshirani, 1993, ch. 13).

    Parameters
    ----------
    statistic
        Of the pictures with these indices; NaN where it cannot be told, which does not count.
    drawings
        As :func:`resamples` makes them.
    pictures
        N.
    """
    value = statistic(np.arange(pictures))
    drawn = np.array([statistic(indices) for indices in drawings])
    drawn = drawn[np.isfinite(drawn)]
    if not drawn.size:
        return Figure(value, value, value)
    low, high = np.quantile(drawn, [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
    return Figure(value, float(low), float(high))


def mean(values: Sequence[float] | Values, patients: Sequence[str]) -> Figure:
    """The mean over pictures, those with NaN left out, with its interval over patients."""
    known = np.asarray(values, np.float64)
    kept = np.isfinite(known)
    if not kept.any():
        return Figure(float("nan"), float("nan"), float("nan"))
    known, owners = known[kept], [p for p, k in zip(patients, kept, strict=True) if k]
    return interval(lambda index: float(known[index].mean()), resamples(owners), len(known))


def threshold_at(impostors: Values, false_accept_rate: float) -> float:
    """The smallest cosine reached by at most this share of the pairs of different persons.

    Where the pairs are too few to resolve the rate, just above the largest.

    Raises
    ------
    ValueError
        There are no pairs, or one is no number.
    """
    ordered = np.sort(np.asarray(impostors, np.float64))
    if not ordered.size or not np.isfinite(ordered).all():
        raise ValueError("a threshold needs pairs of different persons, each with a cosine")
    allowed = int(np.floor(false_accept_rate * ordered.size))
    # One more than allowed reaches the cosine that just fails, so the threshold lies above it.
    return float(np.nextafter(ordered[-(allowed + 1)], 2))
