"""Two methods against each other, picture by picture: differences with their intervals, and the order of the table."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from inference.evaluate import statistics
from inference.evaluate.loop import Evaluated
from inference.evaluate.metrics import Measured
from inference.evaluate.statistics import Figure

COMPARED = (
    "auc",
    "unrecognised",
    "own",
    "found",
    "rank-1",
    "lesion_identical",
    "lesion_delta_e",
    "seam",
    "one_minus_ms_ssim",
    "lpips",
)
"""What is compared: the area after, and every series whose name begins so (``own``: cosine, ``found``: a face)."""


def differences(method: Evaluated, base: Evaluated) -> dict[str, Figure]:
    """The method's figures less the base's, ``metric: name``, each with its interval over patients.

    Only pictures that both gave out are compared.
    """
    found = {}
    for name in (one for one in method.measured if one in base.measured):
        pictures = sorted({*method.measured[name].pictures} & {*base.measured[name].pictures})
        mine, other = (_of(one.measured[name], pictures) for one in (method, base))
        if not pictures:
            continue
        if "truth" in mine.series:
            found[f"{name}: auc_after"] = _areas(mine, other)
        for key, values in mine.series.items():
            if key.startswith(COMPARED) and key in other.series:
                apart = np.asarray(values) - np.asarray(other.series[key])
                found[f"{name}: {key}"] = statistics.mean(apart, mine.patients)
    return found


def _of(measured: Measured, pictures: Sequence[str]) -> Measured:
    """The series of these pictures alone, in their order; of the last value of a picture where it has several."""
    places = {picture: place for place, picture in enumerate(measured.pictures)}
    chosen = [places[picture] for picture in pictures]
    series = {name: [values[place] for place in chosen] for name, values in measured.series.items()}
    return Measured(measured.figures, series, [measured.patients[place] for place in chosen], pictures)


def _areas(mine: Measured, other: Measured) -> Figure:
    named = np.array(mine.series["truth"], np.int64)
    diseases = [name for name in mine.series if f"original {name}" in mine.series]
    both = [np.stack([one.series[name] for name in diseases], axis=1) for one in (mine, other)]

    def apart(index: NDArray[np.intp]) -> float:
        truth = named[index].tolist()
        after = [statistics.one_vs_rest(probabilities[index], truth)[1] for probabilities in both]
        return after[0] - after[1]

    return statistics.interval(apart, statistics.resamples(mine.patients), len(named))


def unrecognised(method: Evaluated) -> float:
    """Share of results that no judge recognises at the larger false accept rate, by the judge who recognises most."""
    shares = [
        measured.figures["unrecognised at 0.01"].value
        for name, measured in method.measured.items()
        if name.startswith("identity ") and measured.figures
    ]
    return min(shares, default=float("nan"))


def kept(method: Evaluated) -> float:
    """How much of the disease is still told, from 0 (chance) to 1 (as on originals); NaN without a judge."""
    measured = method.measured.get("diseases")
    if measured is None or not measured.figures:
        return float("nan")
    before, after = (measured.figures[f"auc_{side}"].value for side in ("before", "after"))
    return float(np.clip((after - 0.5) / max(before - 0.5, 1e-6), 0, 1))


def score(method: Evaluated) -> float:
    """Harmonic mean of what is kept of the disease and what is unrecognised; one alone where only it is known."""
    known = [value for value in (kept(method), unrecognised(method)) if np.isfinite(value)]
    if not known:
        return float("nan")
    return 0.0 if min(known) <= 0 else float(len(known) / sum(1 / value for value in known))


def ranked(methods: Sequence[Evaluated]) -> list[Evaluated]:
    """The methods by :func:`score`, best first; those without one last."""
    return sorted(methods, key=lambda method: -np.nan_to_num(score(method), nan=-1.0))


def against(methods: Sequence[Evaluated], base: str) -> Mapping[str, dict[str, Figure]]:
    """:func:`differences` of every other method to the one named ``base``; empty without it."""
    named = {method.name: method for method in methods}
    if base not in named:
        return {}
    return {name: differences(method, named[base]) for name, method in named.items() if name != base}
