"""Searches the finished file for anything of the original identity; the last gate about metadata.

The file is read again, and everything in it is looked at:

* the file must be exactly its elements: a preamble of zeros, and the bytes that writing the elements again gives.
  So nothing can hide between, before or behind them;
* texts are searched, without regard to case, accents and width, at word borders, for every value of
  :mod:`gateway.needles`; identifiers also with their separators changed or dropped. What the profile carries over
  or cleans is searched for strong values only; what this gateway writes itself (:mod:`gateway.mark`) is not searched;
* whatever reads as a date in a text (:func:`gateway.descriptors.dates_in`) must not mean a day of the original;
* dates that moved are compared with *their own* original. A moved date may well coincide with another date of the
  original (a study a week after the last one, moved by a week); that is no leak, and a search could not tell. A
  date equal to its own original is one, and so are dates of one object that moved by different numbers of days;
* other binary values and pixel data are searched for values of at least 6 bytes, in UTF-8, UTF-16 and the
  original's character set, and for days as cameras write them, because shorter ones occur in any picture by
  chance. Coded frames may carry no segment beside their image at all.
"""

import re
from collections.abc import Iterable, Mapping
from datetime import date

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.encaps import generate_frames
from pydicom.uid import UID, RLELossless

from gateway import codestream, part10
from gateway.descriptors import dates_in, folded
from gateway.errors import Held
from gateway.identities import described
from gateway.mark import CODES, DERIVATION, METHOD, PIXEL_BY_PIXEL_MASK
from gateway.needles import Needle, Seen, collect, days_of, walk
from gateway.part10 import quiet
from gateway.profiles import Action, Profile

MIN_BYTES = 6
MIN_SQUEEZED = 6

_CHUNK = 1 << 15
_CASE = 0x20  # the bit in which the cases of an ASCII letter differ

_METHOD = 0x00120063
_DATES = frozenset({"DA", "DT"})
_NUMBERS = frozenset({"IS", "DS", "TM", "AS"})
_CODED = frozenset({"UI", "CS"})
_BASIC = Profile()
_OURS = frozenset({METHOD, DERIVATION, PIXEL_BY_PIXEL_MASK[1], *CODES.values()})
_DOTTED = re.compile(r"\d+(\.\d+)+")
_SEPARATORS = re.compile(r"[\W_]+")


def residue(
    original: Dataset, file: bytes, profile: Profile = _BASIC, finished: Dataset | None = None
) -> list[str]:
    """Tags and names of the original's attributes whose values are in the finished file; empty when clean.

    Parameters
    ----------
    original
        As received.
    file
        The complete Part 10 file that is to leave.
    profile
        The one that was applied: what it keeps is not looked for.
    finished
        What :func:`gateway.part10.read` makes of ``file``, where that is known already.

    Returns
    -------
    list of str
        ``"(gggg,eeee) Name"`` for a value that was found, or a sentence about the file. Never a value.

    Raises
    ------
    Held
        ``unreadable``: the finished file cannot be read.
    """
    finished = part10.read(file) if finished is None else finished
    found = set(_structure(finished, file))
    with quiet():
        try:
            before = list(walk(original))
            after = [*walk(finished.file_meta), *walk(finished)]
            needles = collect(original, profile, before)
            days = days_of(original, profile, before)
            found |= _in_texts(before, after, needles, days, profile)
            found |= _in_dates(before, after, profile)
            found |= _in_bytes(after, needles, days)
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
        same = part10.is_exactly(file, finished)
    except Held:
        same = False
    if not same:
        yield "the file holds bytes that belong to no element"


def _in_texts(
    before: list[Seen], after: list[Seen], needles: list[Needle], days: Mapping[date, str], profile: Profile
) -> set[str]:
    sop_class = next((v for e in after if e.tag == 0x00080016 for v in e.values), "")
    carried: list[str] = []
    changed: list[str] = []
    found: set[str] = set()
    kept = {(element.tag, text) for element in before for text in element.values}
    for element in after:
        if element.vr in _DATES or element.vr in _NUMBERS or element.tag == _METHOD:
            continue
        for text in element.values:
            if text in _OURS:
                continue
            plain = folded(text)
            (carried if _stays(element, text, kept, profile, sop_class) else changed).append(plain)
            if element.vr != "UI" and any(sign.isdigit() for sign in plain):
                found |= {days[day] for _, _, readings in dates_in(plain) for day in readings & days.keys()}
    everything = "\n".join(carried + changed)
    new = "\n".join(changed)
    squeezed = "\n".join(
        _SEPARATORS.sub("", folded(text))
        for element in after
        if element.vr not in _CODED | _DATES | _NUMBERS and element.tag != _METHOD
        for text in element.values
        if (element.tag, text) not in kept
    )
    for needle in needles:
        if any(_stands_in(everything if needle.strong else new, spelling) for spelling in needle.spellings()):
            found.add(needle.attribute)
        elif needle.strong and not needle.text.isalpha() and "." not in needle.text:
            short = _SEPARATORS.sub("", folded(needle.text))
            if len(short) >= MIN_SQUEEZED and any(sign.isdigit() for sign in short) and short in squeezed:
                found.add(needle.attribute)
    return found


def _stays(element: Seen, text: str, kept: set[tuple[int, str]], profile: Profile, sop_class: str) -> bool:
    """Whether a text was carried over or cleaned, and not put there anew."""
    if element.tag >> 16 & 1:
        return profile.keeps_private and (element.tag, text) in kept
    action = profile.resolved(element.tag, sop_class)[1]
    return action is Action.CLEAN or (action is Action.KEEP and (element.tag, text) in kept)


def _stands_in(texts: str, value: str) -> bool:
    if value not in texts:
        return False
    # A number with dots, as a UID, is no part of a longer one.
    before, after = (r"(?<![\w.])", r"(?!\w|\.\d)") if _DOTTED.fullmatch(value) else (r"(?<!\w)", r"(?!\w)")
    return re.search(before + re.escape(value) + after, texts) is not None


def _in_dates(before: list[Seen], after: list[Seen], profile: Profile) -> set[str]:
    originals = {element.path: element for element in before if element.vr in _DATES}
    sop_class = next((v for e in after if e.tag == 0x00080016 for v in e.values), "")
    found, moves = set(), set()
    for element in after:
        if element.vr not in _DATES or element.path not in originals:
            continue
        if profile.resolved(element.tag, sop_class)[1] is Action.KEEP:
            continue
        for new, old in zip(element.values, originals[element.path].values, strict=False):
            if new[:8] == old[:8] and len(new) >= 8:
                found.add(described(element.tag)[0])
            try:
                moves.add((date.fromisoformat(new[:8]) - date.fromisoformat(old[:8])).days)
            except ValueError:
                continue  # a date of less than a day's precision, or one that could not be moved
    if len(moves) > 1 and profile.moves_dates:
        found.add("dates moved by different numbers of days")
    return found


def _in_bytes(after: list[Seen], needles: list[Needle], days: Mapping[date, str]) -> set[str]:
    forms: dict[bytes, str] = {}
    for needle in needles:
        texts = (
            {needle.text}
            if needle.text.isascii()
            else {needle.text, needle.text.lower(), needle.text.upper()}
        )
        for text in texts:
            for form in (text.encode("utf-8", "replace"), _wide(text), needle.coded):
                if len(form) >= MIN_BYTES and len(set(form)) > 2:
                    forms[form.lower()] = needle.attribute
    for day, attribute in days.items():
        for text in (
            f"{day:%Y%m%d}",
            f"{day:%Y-%m-%d}",
            f"{day:%Y:%m:%d}",
            f"{day:%d.%m.%Y}",
            f"{day:%m/%d/%Y}",
        ):
            forms[text.encode("ascii")] = forms[_wide(text)] = attribute
    return {attribute for element in after if element.data for attribute in search(element.data, forms)}


def _wide(text: str) -> bytes:
    """UTF-16 in either byte order: what both have in common."""
    return text.encode("utf-16-le", "replace").removesuffix(b"\0")


def search(haystack: bytes, forms: Mapping[bytes, str]) -> set[str]:
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
    if len(haystack) < 1 << 14:
        small = haystack.lower()
        return {name for form, name in forms.items() if form in small}
    starts: dict[bytes, list[tuple[int, bytes]]] = {}
    for form in forms:
        for offset in range(4):
            starts.setdefault(_coarse(form[offset : offset + 3]), []).append((offset, form))
    first, last = (_likely(start[place : place + 2] for start in starts) for place in (0, 1))
    words = np.frombuffer(haystack, dtype="<u4", count=len(haystack) // 4)
    places: list[int] = []
    for begin in range(0, len(words), _CHUNK):
        part = words[begin : begin + _CHUNK]  # what a core keeps at hand
        likely = np.flatnonzero(np.take(first, np.ascontiguousarray(part.view("<u2")[::2])))
        likely = likely[last[(part[likely] >> 8) & 0xFFFF]]
        places += (4 * (begin + likely)).tolist()
    found: set[bytes] = set()
    for place in places:
        for offset, form in starts.get(_coarse(haystack[place : place + 3]), ()):
            start = place - offset
            if form not in found and haystack[max(start, 0) : start + len(form)].lower() == form:
                found.add(form)
    return {forms[form] for form in found}


def _coarse(three: bytes) -> bytes:
    return bytes(byte | _CASE for byte in three)


def _likely(pairs: Iterable[bytes]) -> NDArray[np.bool_]:
    """For each two bytes, as a little endian number, whether they are among ``pairs``, whatever their case."""
    among = np.zeros(1 << 16, dtype=np.bool_)
    codes = np.array([int.from_bytes(pair, "little") for pair in pairs], dtype=np.uint16)
    for other_case in (0, _CASE, _CASE << 8, _CASE << 8 | _CASE):
        among[codes ^ other_case] = True
    return among


def _segments(finished: Dataset) -> set[str]:
    """Coded frames that carry anything beside their image."""
    syntax = UID(finished.file_meta.TransferSyntaxUID)
    if not syntax.is_encapsulated or syntax == RLELossless or "PixelData" not in finished:
        return set()
    frames = generate_frames(finished.PixelData, number_of_frames=int(finished.get("NumberOfFrames") or 1))
    return (
        {"a coded frame carries segments beside its image"} if any(map(codestream.foreign, frames)) else set()
    )
