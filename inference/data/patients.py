"""Which patient is learnt from and which is kept for judging: one deterministic rule, never by picture."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from inference.data import DataError
from inference.data.manifest import SPLITS, Photograph

SHARES: Mapping[int, Sequence[str]] = {3: SPLITS, 2: ("train", "test")}
"""Names of the splits, by how many shares are given."""


def shares(text: str) -> dict[str, float]:
    """``"8:1:1"`` as the share of train, validation and test; ``"8:2"`` as that of train and test.

    Raises
    ------
    DataError
        Not two or three positive numbers.
    """
    try:
        parts = [float(part) for part in text.split(":")]
    except ValueError:
        parts = []
    if len(parts) not in SHARES or not all(0 < part < 1e6 for part in parts):
        raise DataError(f"{text!r} is no split; give shares such as 8:1:1 (train, validation, test) or 8:2.")
    return {name: part / sum(parts) for name, part in zip(SHARES[len(parts)], parts, strict=True)}


def assign(groups: Mapping[str, str], wanted: Mapping[str, float], seed: int = 0) -> dict[str, str]:
    """The split of each patient: shares as asked for, over all patients and as nearly as possible in each group.

    Patients are taken group by group, within a group in the order of the SHA-256 of seed and name, and each goes
    to the split that is furthest behind its share; where two are equally far behind, to the larger one. No split
    stays empty where there are patients enough.

    Parameters
    ----------
    groups
        Group of each patient, usually the disease.
    wanted
        Share of each split; they add up to 1.
    seed
        Another one gives another choice.
    """
    total = len(groups)
    least = 1 if total >= len(wanted) else 0
    room = {name: max(least, round(share * total)) for name, share in wanted.items()}
    largest = max(wanted, key=lambda one: wanted[one])
    room[largest] += total - sum(room.values())
    chosen: dict[str, str] = {}
    counts = dict.fromkeys(wanted, 0)
    for patient in sorted(groups, key=lambda one: (groups[one], _order(one, seed))):
        behind = {name: room[name] * (len(chosen) + 1) - counts[name] * total for name in wanted}
        name = max(wanted, key=lambda one: (behind[one], wanted[one]))
        chosen[patient] = name
        counts[name] += 1
    return chosen


def _order(patient: str, seed: int) -> str:
    return hashlib.sha256(f"{seed} {patient}".encode()).hexdigest()


def split(rows: Iterable[Photograph], wanted: Mapping[str, float], seed: int = 0) -> list[Photograph]:
    """The photographs with a split for each patient (:func:`assign`), grouped by each patient's first disease."""
    listed = list(rows)
    groups: dict[str, str] = {}
    for row in listed:
        groups.setdefault(row.patient, row.disease)
    chosen = assign(groups, wanted, seed)
    return [replace(row, split=chosen[row.patient]) for row in listed]
