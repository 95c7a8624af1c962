"""From embeddings of known persons to the cosine from which two faces count as one person.

Shape letters: N pictures, D length of an embedding.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.contract import Floats

FALSE_ACCEPT_RATES = (1e-2, 1e-3, 1e-4)


@dataclass(frozen=True, slots=True)
class Spread:
    """How cosines are spread: their number, mean, standard deviation, ends and percentiles (1, 50, 99)."""

    count: int
    mean: float
    deviation: float
    least: float
    most: float
    percentile_1: float
    median: float
    percentile_99: float


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """One way to decide: two faces are one person when their cosine is at least ``threshold``.

    Attributes
    ----------
    false_accept_rate
        Share of different persons' pairs that may be taken for one person.
    threshold
        The smallest cosine that keeps to it on the pairs seen; just above the largest impostor cosine where
        the pairs are too few to resolve the rate.
    true_accept_rate
        Share of one person's pairs recognised at this threshold.
    """

    false_accept_rate: float
    threshold: float
    true_accept_rate: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """What a recogniser can tell apart on known persons.

    Attributes
    ----------
    eer
        Equal error rate in [0, 1]: mean of both error rates at the threshold where they are closest.
    eer_threshold
        That threshold.
    points
        One per entry of :data:`FALSE_ACCEPT_RATES`, in that order.
    genuine, impostor
        Cosines of pairs of one person, and of different persons.
    """

    eer: float
    eer_threshold: float
    points: tuple[OperatingPoint, ...]
    genuine: Spread
    impostor: Spread

    def threshold_at(self, false_accept_rate: float) -> float:
        """The threshold for one of the calibrated rates.

        Raises
        ------
        KeyError
            The rate was not calibrated.
        """
        for point in self.points:
            if point.false_accept_rate == false_accept_rate:
                return point.threshold
        raise KeyError(f"no threshold was calibrated at a false accept rate of {false_accept_rate}")

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def _spread(cosines: NDArray[np.float64]) -> Spread:
    low, middle, high = np.percentile(cosines, [1, 50, 99])
    return Spread(
        count=len(cosines),
        mean=float(cosines.mean()),
        deviation=float(cosines.std()),
        least=float(cosines.min()),
        most=float(cosines.max()),
        percentile_1=float(low),
        median=float(middle),
        percentile_99=float(high),
    )


def pairs(embeddings: Floats, persons: Sequence[str]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Cosines of all pairs of one person, and of all pairs of different persons, each sorted.

    Raises
    ------
    ValueError
        The shapes do not fit, a value is not finite, an embedding is not of unit length, or one of the two
        kinds of pairs does not occur.
    """
    vectors = np.asarray(embeddings, np.float64)
    if vectors.ndim != 2 or len(vectors) != len(persons):
        raise ValueError("there must be one embedding for each person's picture")
    lengths = np.linalg.norm(vectors, axis=1)
    if not np.all(np.abs(lengths - 1) < 1e-3):
        raise ValueError("embeddings must be finite and of unit length")
    first, second = np.triu_indices(len(vectors), 1)
    cosines = np.clip((vectors @ vectors.T)[first, second], -1, 1)
    names = np.asarray(persons)
    same = names[first] == names[second]
    if not same.any() or same.all():
        raise ValueError("a calibration needs pairs of one person and pairs of different persons")
    return np.sort(cosines[same]), np.sort(cosines[~same])


def calibrate(embeddings: Floats, persons: Sequence[str]) -> Calibration:
    """Error rates and thresholds of a recogniser on pictures of known persons.

    Parameters
    ----------
    embeddings
        float32 (N, D), unit length.
    persons
        Whose picture each is; N names.

    Raises
    ------
    ValueError
        The embeddings cannot be compared; see :func:`pairs`.
    """
    genuine, impostor = pairs(embeddings, persons)
    candidates = np.unique(np.concatenate([genuine, impostor, [np.nextafter(impostor[-1], 2)]]))
    rejected = np.searchsorted(genuine, candidates, side="left") / len(genuine)
    accepted = 1 - np.searchsorted(impostor, candidates, side="left") / len(impostor)
    nearest = int(np.argmin(np.abs(rejected - accepted)))
    points = []
    for rate in FALSE_ACCEPT_RATES:
        index = int(np.flatnonzero(accepted <= rate)[0])
        points.append(OperatingPoint(rate, float(candidates[index]), float(1 - rejected[index])))
    assert all(looser.threshold <= stricter.threshold for looser, stricter in pairwise(points))
    return Calibration(
        eer=float((rejected[nearest] + accepted[nearest]) / 2),
        eer_threshold=float(candidates[nearest]),
        points=tuple(points),
        genuine=_spread(genuine),
        impostor=_spread(impostor),
    )
