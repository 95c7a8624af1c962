"""Which portraits are held back: one rule for every training and every figure."""

import hashlib
from collections.abc import Iterable

HELD_BACK = 50
"""Portraits that no training may see."""


def held_back(names: Iterable[str]) -> frozenset[str]:
    """The names kept for validation, the same for every model and every run.

    Names are ordered by the SHA-256 of their UTF-8 bytes (hexadecimal), and the first :data:`HELD_BACK` are
    held back; adding a portrait therefore moves at most one name across the border.

    Parameters
    ----------
    names
        All portraits' names, in any order.

    Returns
    -------
    frozenset of str
        At most :data:`HELD_BACK` of them.
    """
    ordered = sorted(set(names), key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    return frozenset(ordered[:HELD_BACK])
