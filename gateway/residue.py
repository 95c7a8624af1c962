"""Searches the finished file for anything of the original identity; the last gate about metadata.

The file is read again, and everything in it is looked at:

* the file must be exactly its elements: a preamble of zeros, and the bytes that writing the elements again gives.
  So nothing can hide between, before or behind them;
* texts are searched without regard to case, at word borders, for every value of :mod:`gateway.needles`. What the
  profile carries over unchanged is searched for strong values only; what this gateway writes itself
  (:mod:`gateway.mark`) is not searched;
* dates that moved are compared with *their own* original. A moved date may well coincide with another date of the
  original (a study a week after the last one, moved by a week); that is no leak, and a search could not tell. A
  date equal to its own original is one, and so are dates of one object that moved by different numbers of days.
  Dates in texts, in any notation, are searched like other values;
* other binary values and pixel data are searched for values of at least 6 bytes, in UTF-8, UTF-16 and the
  original's character set, because shorter ones occur in any picture by chance. Coded frames may carry no segment
  beside their image at all.
"""

import re
from collections.abc import Iterable, Mapping
from datetime import date

import numpy as np
from pydicom import DataElement, Dataset
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.encaps import generate_frames
from pydicom.tag import BaseTag
from pydicom.uid import UID, RLELossless

from gateway import codestream, part10
from gateway.errors import Held
from gateway.mark import CODES, DERIVATION, METHOD, PIXEL_BY_PIXEL_MASK
from gateway.needles import Needle, collect, values, walk
from gateway.part10 import quiet
from gateway.profiles import Action, Profile

MIN_BYTES = 6

_METHOD = 0x00120063
_PIXEL_DATA = 0x7FE00010
_DATES = frozenset({"DA", "DT"})
_NUMBERS = frozenset({"IS", "DS", "US", "SS", "UL", "SL", "FL", "FD", "UV", "SV", "AT", "TM"})
_BINARY = frozenset({"OB", "OW", "OV", "OL", "OF", "OD", "UN"})
_BASIC = Profile()
_OURS = frozenset({METHOD, DERIVATION, PIXEL_BY_PIXEL_MASK[1], *CODES.values()})


def residue(original: Dataset, file: bytes, profile: Profile = _BASIC) -> list[str]:
    """Tags and names of the original's attributes whose values are in the finished file; empty when clean.

    Parameters
    ----------
    original
        As received.
    file
        The complete Part 10 file that is to leave.
    profile
        The one that was applied: what it keeps is not looked for.

    Returns
    -------
    list of str
        ``"(gggg,eeee) Name"`` for a value that was found, or a sentence about the file. Never a value.

    Raises
    ------
    Held
        ``unreadable``: the finished file cannot be read.
    """
    finished = part10.read(file)
    needles = collect(original, profile)
    found = set(_structure(finished, file))
    with quiet():
        try:
            elements = [*walk(finished.file_meta), *walk(finished)]
            originals = dict(walk(original))
            found |= _in_texts(elements, originals, needles, profile)
            found |= _in_dates(elements, originals, profile)
            found |= _in_bytes(elements, needles)
            found |= _segments(finished)
        except Held:
            raise
        except Exception as error:
            raise Held(
                "unreadable", f"the finished object cannot be searched ({type(error).__name__})"
            ) from error
    return sorted(found)


def _structure(finished: Dataset, file: bytes) -> Iterable[str]:
    if file[: part10.PREAMBLE_BYTES].strip(b"\0"):
        yield "the preamble is not empty"
    try:
        same = part10.write(finished) == file
    except Held:
        same = False
    if not same:
        yield "the file holds bytes that belong to no element"


def _in_texts(
    elements: list[tuple[tuple[int, ...], DataElement]],
    originals: Mapping[tuple[int, ...], DataElement],
    needles: list[Needle],
    profile: Profile,
) -> set[str]:
    carried: list[str] = []
    other: list[str] = []
    kept = {(int(e.tag), t) for e in originals.values() if e.VR not in _BINARY for t in values(e)}
    for _, element in elements:
        if element.VR in _DATES | _NUMBERS | _BINARY or int(element.tag) == _METHOD:
            continue
        for text in values(element):
            if text in _OURS:
                continue
            unchanged = _kept(element.tag, profile) and (int(element.tag), text) in kept
            (carried if unchanged else other).append(text.casefold())
    everything, changed = "\n".join(carried + other), "\n".join(other)
    return {
        needle.attribute
        for needle in needles
        if _stands_in(everything if needle.strong else changed, needle.text)
    }


def _stands_in(texts: str, value: str) -> bool:
    folded = value.casefold()
    return folded in texts and re.search(rf"(?<!\w){re.escape(folded)}(?!\w)", texts) is not None


def _kept(tag: BaseTag, profile: Profile) -> bool:
    return dictionary_has_tag(tag) and profile.action(int(tag), dictionary_VR(tag)) is Action.KEEP


def _in_dates(
    elements: list[tuple[tuple[int, ...], DataElement]],
    originals: Mapping[tuple[int, ...], DataElement],
    profile: Profile,
) -> set[str]:
    found, moves = set(), set()
    for path, element in elements:
        before = originals.get(path)
        if element.VR not in _DATES or before is None or _kept(element.tag, profile):
            continue
        for new, old in zip(values(element), values(before), strict=False):
            if new[:8] == old[:8] and len(new) >= 8:
                found.add(f"({element.tag.group:04X},{element.tag.element:04X}) {element.name}")
            try:
                moves.add((date.fromisoformat(new[:8]) - date.fromisoformat(old[:8])).days)
            except ValueError:
                continue  # a date of less than a day's precision, or one that could not be moved
    if len(moves) > 1 and profile.dates == "shift":
        found.add("dates moved by different numbers of days")
    return found


def _in_bytes(elements: list[tuple[tuple[int, ...], DataElement]], needles: list[Needle]) -> set[str]:
    forms: dict[bytes, str] = {}
    for needle in needles:
        for text in {needle.text, needle.text.lower(), needle.text.upper()}:
            for form in (text.encode("utf-8", "replace"), text.encode("utf-16-le", "replace"), needle.coded):
                if len(form) >= MIN_BYTES and len(set(form)) > 2:
                    forms[form] = needle.attribute
    return {
        attribute
        for _, element in elements
        if element.VR in _BINARY and isinstance(element.value, bytes | bytearray)
        for attribute in search(bytes(element.value), forms)
    }


def search(haystack: bytes, forms: Mapping[bytes, str]) -> set[str]:
    """The names of those byte strings that occur, in a time that hardly grows with their number.

    Every string of five bytes or more covers four bytes that begin at an even place, from its first or second
    byte on; only where such four bytes are found is looked closer. Twelve megapixels take a tenth of a
    second.

    Parameters
    ----------
    haystack
        Where to look.
    forms
        Name by byte string, each of at least 5 bytes.
    """
    if len(haystack) < 1 << 16:
        return {name for form, name in forms.items() if form in haystack}
    words: dict[int, list[tuple[int, bytes]]] = {}
    for form in forms:
        for offset in (0, 1):
            words.setdefault(int.from_bytes(form[offset : offset + 4], "little"), []).append((offset, form))
    keys = np.fromiter(words, dtype=np.uint32, count=len(words))
    likely = np.zeros(1 << 16, dtype=np.bool_)
    likely[keys & 0xFFFF] = True
    found: set[bytes] = set()
    for phase in (0, 2):
        count = (len(haystack) - phase) // 4
        word = np.frombuffer(haystack, dtype="<u4", count=count, offset=phase)
        half = np.frombuffer(haystack, dtype="<u2", count=2 * count, offset=phase)[::2]
        places = np.flatnonzero(likely[half])
        places = places[np.isin(word[places], keys)]
        for place in places.tolist():
            for offset, form in words[int(word[place])]:
                start = phase + 4 * place - offset
                if form not in found and haystack[max(start, 0) : start + len(form)] == form:
                    found.add(form)
    return {forms[form] for form in found}


def _segments(finished: Dataset) -> set[str]:
    """Coded frames that carry anything beside their image."""
    syntax = UID(finished.file_meta.TransferSyntaxUID)
    if not syntax.is_encapsulated or syntax == RLELossless or "PixelData" not in finished:
        return set()
    frames = generate_frames(finished.PixelData, number_of_frames=int(finished.get("NumberOfFrames") or 1))
    return (
        {"a coded frame carries segments beside its image"} if any(map(codestream.foreign, frames)) else set()
    )
