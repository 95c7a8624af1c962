"""Searches the finished file for anything of the original identity; the last gate about metadata.

The file is read again, and everything in it is looked at:

* the file must be exactly its elements: a preamble of zeros, and the bytes that writing the elements again gives.
  So nothing can hide between, before or behind them;
* texts are searched, without regard to case, accents and width, at word borders, for every value of
  :mod:`gateway.needles`; identifiers also with their separators changed or dropped. What the profile carries over
  or cleans is searched for strong values only; what this gateway writes itself (:mod:`gateway.mark`) is not searched;
* numbers written as text (IS, DS) must not be an identifier of the original or one of its days;
* whatever reads as a date in a text (:func:`gateway.descriptors.dates_in`) must not mean a day of the original;
* dates that moved are compared with *their own* original. A moved date may well coincide with another date of the
  original (a study a week after the last one, moved by a week); that is no leak, and a search could not tell. A
  date equal to its own original is one, and so are dates of one object that moved by different numbers of days;
* other binary values and pixel data are searched by :mod:`gateway.haystack`. Coded frames may carry no segment
  beside their image at all.
"""

import re
from collections.abc import Iterable, Mapping
from datetime import date
from functools import lru_cache, partial

from pydicom import Dataset
from pydicom.encaps import generate_frames
from pydicom.uid import UID, RLELossless

from gateway import codestream, haystack, part10, pixels
from gateway.descriptors import dates_in, folded, is_unspaced
from gateway.errors import Held
from gateway.identities import described, text_of
from gateway.mark import CODES, DERIVATION, METHOD, PIXEL_BY_PIXEL_MASK
from gateway.needles import MIN_DIGITS, Needle, Seen, collect, days_of, walk
from gateway.part10 import quiet
from gateway.profiles import Action, Profile

MIN_SQUEEZED = 6
_SHORT = 128

_METHOD = 0x00120063
_DATES = frozenset({"DA", "DT"})
_NUMBERS = frozenset({"IS", "DS"})
_UNSEARCHED = _DATES | {"TM", "AS"}
_CODED = frozenset({"UI", "CS"})
_BASIC = Profile()
_OURS = frozenset({METHOD, DERIVATION, PIXEL_BY_PIXEL_MASK[1], *CODES.values()})
_DOTTED = re.compile(r"\d+(\.\d+)+")
_SEPARATORS = re.compile(r"[\W_]+")
_THREE_DIGITS = re.compile(r"[0-9][^0-9]*+[0-9][^0-9]*+[0-9]")
_INTEGER = re.compile(r"^\+?0*(\d+)(?:\.0*)?$")


def residue(
    original: Dataset, file: bytes, profile: Profile = _BASIC, looked: part10.Looked | None = None
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
    looked
        What :func:`gateway.part10.look` makes of ``file``, where that is known already.

    Returns
    -------
    list of str
        ``"(gggg,eeee) Name"`` for a value that was found, or a sentence about the file. Never a value.

    Raises
    ------
    Held
        ``unreadable``: the finished file cannot be read.
    """
    looked = part10.look(file) if looked is None else looked
    finished, found = looked.ds, set(_structure(looked, file))
    with quiet():
        try:
            before = walk(original)
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


def _structure(looked: part10.Looked, file: bytes) -> Iterable[str]:
    if file[: part10.PREAMBLE_BYTES].strip(b"\0"):
        yield "the preamble is not empty"
    try:
        same = looked.whole or part10.is_exactly(file, looked.ds)
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
    squeezed: list[str] = []
    numbers: set[str] = set()
    found: set[str] = set()
    kept = {(element.tag, text) for element in before for text in element.values}
    for element in after:
        _, tag, vr, values, _ = element
        if not values or vr in _UNSEARCHED or tag == _METHOD:
            continue
        if vr in _NUMBERS:
            numbers.update(_INTEGER.sub(r"\1", text) for text in values)
            continue
        for text in values:
            same = (tag, text) in kept
            plain = folded(text)
            if vr not in _CODED:
                squeezed.append(plain if plain.isalnum() else _SEPARATORS.sub("", plain))
            if text in _OURS:
                continue
            (carried if _stays(tag, same, profile, sop_class) else changed).append(plain)
            if vr != "UI":
                found |= {days[day] for day in _days_meant(plain) & days.keys()}
    found |= {label for day, label in days.items() if day.isoformat().replace("-", "") in numbers}
    everything, new, close = "\n".join(carried + changed), "\n".join(changed), "\n".join(squeezed)
    for needle in needles:
        texts = everything if needle.strong else new
        if any(_stands_in(texts, spelling) for spelling in needle.spellings() if spelling in texts):
            found.add(needle.attribute)
        elif needle.strong and not needle.text.isalpha() and "." not in needle.text:
            short = _SEPARATORS.sub("", needle.plain)
            told = any(sign.isdigit() for sign in short) and len(short) >= MIN_SQUEEZED and short in close
            number = short.lstrip("0")
            if told or (len(number) >= MIN_DIGITS and number in numbers):
                found.add(needle.attribute)
    return found


def _days_meant(plain: str) -> frozenset[date]:
    """All days a :func:`folded` text may mean; in ASCII it takes three digits to tell one."""
    if plain.isascii() and _THREE_DIGITS.search(plain) is None:
        return frozenset()
    return _days_read(plain) if len(plain) <= _SHORT else _days_read.__wrapped__(plain)


@lru_cache(1024)
def _days_read(plain: str) -> frozenset[date]:
    return frozenset(day for _, _, readings in dates_in(plain) for day in readings)


def _stays(tag: int, same: bool, profile: Profile, sop_class: str) -> bool:
    """Whether a text was carried over or cleaned, and not put there anew."""
    if tag >> 16 & 1:
        return profile.keeps_private and same
    action = profile.resolved(tag, sop_class)[1]
    return action is Action.CLEAN or (action is Action.KEEP and same)


def _stands_in(texts: str, value: str) -> bool:
    if is_unspaced(value):
        return value in texts
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
    values = [element.data for element in after if len(element.data) >= haystack.MIN_BYTES]
    forms = haystack.forms_of(needles, days) if values else {}
    return {attribute for value in values for attribute in haystack.search(value, forms)}


def _segments(finished: Dataset) -> set[str]:
    """Coded frames that carry anything beside their image."""
    syntax = UID(text_of(finished.file_meta, 0x00020010))
    if not syntax.is_encapsulated or "PixelData" not in finished:
        return set()
    number = int(text_of(finished, 0x00280008) or 1)
    data = pixels.stored_bytes(finished)
    only = pixels.only_fragment(data) if number == 1 else None
    frames = generate_frames(data, number_of_frames=number) if only is None else [only]
    foreign = codestream.foreign
    if syntax == RLELossless:
        foreign = partial(pixels.foreign, layout=pixels.Layout.of(finished))
    return {"a coded frame carries segments beside its image"} if any(map(foreign, frames)) else set()
