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
_CHUNK = 1 << 16
_CASE = 0x20  # the bit in which the cases of an ASCII letter differ
_THREE = _CASE << 16 | _CASE << 8 | _CASE
_WRITTEN = ("%Y%m%d", "%Y-%m-%d", "%Y:%m:%d", "%d.%m.%Y", "%m/%d/%Y")


def forms_of(needles: Iterable[Needle], days: Mapping[date, str]) -> dict[bytes, str]:
    """The name of the attribute by each byte string, in lower case, that one of these values may be written as."""
    forms: dict[bytes, str] = {}
    for attribute, text, _, coded in needles:
        if text.isascii():
            signs = len(set(text))
            if len(text) * 2 > MIN_BYTES and signs > 1:
                forms[_wide(text.lower())] = attribute
            if len(text) >= MIN_BYTES and signs > 2:
                forms[text.lower().encode("ascii")] = attribute
            continue
        for written in (text, text.lower(), text.upper()):
            for form in (written.encode("utf-8", "replace"), _wide(written), coded):
                if len(form) >= MIN_BYTES and len(set(form)) > 2:
                    forms[form.lower()] = attribute
    for day, attribute in days.items():
        for form in _as_cameras_write(day):
            forms[form] = attribute
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
    places = _likely_places(haystack, _among(pairs[:, :4]), _among(pairs[:, 1:]))
    if not places:
        return set()
    starts: dict[int, list[tuple[int, bytes]]] = {}
    for form, threes in zip(
        forms, (pairs[:, :4] | heads[:, 2:].astype(np.uint32) << 16).tolist(), strict=True
    ):
        for offset, three in enumerate(threes):
            starts.setdefault(three, []).append((offset, form))
    found: set[bytes] = set()
    for place in places:
        for offset, form in starts.get(int.from_bytes(haystack[place : place + 3], "little") | _THREE, ()):
            start = place - offset
            if form not in found and bytes(haystack[max(start, 0) : start + len(form)]).lower() == form:
                found.add(form)
    return {forms[form] for form in found}


def _likely_places(
    haystack: bytes | memoryview, first: NDArray[np.bool_], last: NDArray[np.bool_]
) -> list[int]:
    """Multiples of four at which the first and the last two of three bytes are among those that are looked for."""
    words = np.frombuffer(haystack, dtype="<u4", count=len(haystack) // 4)
    chunk = min(_CHUNK, len(words))
    low, likely = np.empty(chunk, np.intp), np.empty(chunk, np.bool_)
    places: list[int] = []
    for begin in range(0, len(words), _CHUNK):
        part = words[begin : begin + _CHUNK]  # what a core keeps at hand
        number = len(part)
        np.bitwise_and(part, 0xFFFF, out=low[:number], casting="unsafe")
        first.take(low[:number], out=likely[:number], mode="wrap")
        here = likely[:number].nonzero()[0]
        here = here[last[(part[here] >> 8) & 0xFFFF]]
        if here.size:
            places += (4 * (begin + here)).tolist()
    return places


def _among(pairs: NDArray[np.uint16]) -> NDArray[np.bool_]:
    """For each two bytes, as a little endian number, whether they are among ``pairs``, whatever their case."""
    among = np.zeros(1 << 16, dtype=np.bool_)
    for other_case in (0, _CASE, _CASE << 8, _CASE << 8 | _CASE):
        among[pairs ^ np.uint16(other_case)] = True
    return among
