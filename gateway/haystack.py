"""Finds values of an original in bytes: pixels, profiles of colours, whatever is no text.

A value may stand there in UTF-8, in UTF-16 of either byte order and in the original's own character set, a day as
cameras write it. Values of fewer than 6 bytes are not looked for, because they occur in any picture by chance.
"""

from collections.abc import Iterable, Mapping
from datetime import date
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from gateway.needles import Needle

MIN_BYTES = 6

_SMALL = 1 << 14
_CHUNK = 1 << 15
_CASE = 0x20  # the bit in which the cases of an ASCII letter differ
_CASES = np.array([0, _CASE, _CASE << 8, _CASE << 8 | _CASE], np.uint16)
_THREE = _CASE << 16 | _CASE << 8 | _CASE
_THREE_BYTES = 0xFFFFFF
_WRITTEN = ("%Y%m%d", "%Y-%m-%d", "%Y:%m:%d", "%d.%m.%Y", "%m/%d/%Y")


def forms_of(needles: Iterable[Needle], days: Mapping[date, str]) -> dict[bytes, str]:
    """The name of the attribute by each byte string, in lower case, that one of these values may be written as."""
    forms: dict[bytes, str] = {}
    for attribute, text, _, _, coded in needles:
        if text.isascii():
            signs, small = len(set(text)), text.lower()
            if len(text) * 2 > MIN_BYTES and signs > 1:
                forms[_wide(small)] = attribute
            if len(text) >= MIN_BYTES and signs > 2:
                forms[small.encode("ascii")] = attribute
            continue
        written = {text, text.lower(), text.upper()}
        for form in {coded, *(one.encode("utf-8", "replace") for one in written), *map(_wide, written)}:
            if len(form) >= MIN_BYTES and len(set(form)) > 2:
                forms[form.lower()] = attribute
    for day, attribute in days.items():
        forms.update(dict.fromkeys(_as_cameras_write(day), attribute))
    return forms


@lru_cache(1024)
def _as_cameras_write(day: date) -> tuple[bytes, ...]:
    texts = [day.strftime(written) for written in _WRITTEN]
    return (*(text.encode("ascii") for text in texts), *map(_wide, texts))


def _wide(text: str) -> bytes:
    """UTF-16 in either byte order: what both have in common."""
    return text.encode("utf-16-le", "replace").removesuffix(b"\0")


def search(haystack: bytes | memoryview, forms: Mapping[bytes, str]) -> set[str]:
    """The names of those byte strings that occur, whatever the case of their ASCII letters.

    The time hardly grows with their number: every string of six bytes or more covers three bytes that begin at a
    multiple of four; only where the first and the last two of them may be of one is looked closer. Three megabytes
    take a millisecond.

    Parameters
    ----------
    haystack
        Where to look.
    forms
        Name by byte string in lower case, each of at least 6 bytes.
    """
    if len(haystack) < MIN_BYTES or not forms:
        return set()
    if len(haystack) < _SMALL:
        small = bytes(haystack).lower()
        return {name for form, name in forms.items() if form in small}
    heads = (
        np.frombuffer(b"".join([form[:MIN_BYTES] for form in forms]), np.uint8).reshape(-1, MIN_BYTES) | _CASE
    )
    pairs = (heads[:, :-1] | heads[:, 1:].astype(np.uint16) << 8).astype(np.uint16)
    words = np.frombuffer(haystack, dtype="<u4", count=len(haystack) // 4)
    places = _likely_places(words, _among(pairs[:, :4]), _among(pairs[:, 1:]))
    wanted = (pairs[:, :4] | heads[:, 2:].astype(np.uint32) << 16).ravel()
    there = words[places] & _THREE_BYTES | _THREE
    known, end = list(forms), bytes(haystack[-MIN_BYTES:]).lower()
    found = {end} & forms.keys()  # where the last three bytes are no whole word
    for three in set(there.tolist()).intersection(wanted.tolist()):
        starts = 4 * places[there == three]
        for number in (wanted == three).nonzero()[0].tolist():
            form = known[number // 4]
            if form not in found and any(
                _stands_at(haystack, start, form) for start in (starts - number % 4).tolist()
            ):
                found.add(form)
    return {forms[form] for form in found}


def _stands_at(haystack: bytes | memoryview, start: int, form: bytes) -> bool:
    return bytes(haystack[max(start, 0) : start + len(form)]).lower() == form


def _likely_places(
    words: NDArray[np.uint32], first: NDArray[np.bool_], last: NDArray[np.bool_]
) -> NDArray[np.intp]:
    """Numbers of the words whose first two bytes, and second and third, are among those that are looked for."""
    halves = words.view("<u2")[::2]
    low, likely = np.empty(min(_CHUNK, len(words)), np.intp), np.empty(len(words), np.bool_)
    for begin in range(0, len(words), _CHUNK):
        part = halves[begin : begin + _CHUNK]  # what a core keeps at hand
        low[: len(part)] = part
        first.take(low[: len(part)], out=likely[begin : begin + _CHUNK], mode="wrap")
    (places,) = likely.nonzero()
    both: NDArray[np.intp] = places[last[words[places] >> 8 & 0xFFFF]]
    return both


def _among(pairs: NDArray[np.uint16]) -> NDArray[np.bool_]:
    """For each two bytes, as a little endian number, whether they are among ``pairs``, whatever their case."""
    among = np.zeros(1 << 16, dtype=np.bool_)
    among[pairs.reshape(-1, 1) ^ _CASES] = True
    return among
