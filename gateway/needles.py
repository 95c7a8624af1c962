"""What of an original identifies someone, as values to look for in the finished file.

A value is *strong* when it can only have come from this patient or place (names, identifiers, dates,
addresses, UIDs) and *weak* when it describes (a series, a device, a private remark). Strong values are looked
for everywhere, weak ones not in attributes that the profile carries over or cleans: a station that is called
like its camera's model is no leak.

What is too short or too common to prove anything is left out: names below 3 letters, other values below 4
characters, numbers below 5 digits, times of day, ages and plain numbers, and words of the standard itself.
"""

import re
from collections.abc import Iterable
from datetime import date
from functools import lru_cache
from typing import NamedTuple

from pydicom import Dataset
from pydicom.charset import convert_encodings, encode_string
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.multival import MultiValue

from gateway import reader
from gateway.descriptors import STANDARD_WORDS, folded, name_parts
from gateway.identities import described, terms, text_of, well_known
from gateway.mark import CODES
from gateway.part10 import quiet
from gateway.profiles import Action, Profile
from gateway.scrub import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION, MAX_DEPTH, REMOVED

MIN_TEXT = 4
MIN_DIGITS = 5
MIN_UID = 6
MIN_BYTES = 6
MAX_RUNS = 1000

_DATED = frozenset({"DA", "DT"})
_TEXT = frozenset({"LO", "SH", "ST", "LT", "UT", "UC", "UR", "AE", "CS"})
_NUMBERS = frozenset({"US", "SS", "UL", "SL", "FL", "FD", "UV", "SV", "AT", "US or SS"})
_BYTES = frozenset({"OB", "OW", "OV", "OL", "OF", "OD", "UN", "OB or OW", "US or OW", "US or SS or OW"})
_BINARY = frozenset({"OB", "OW", "UN"})
_SPEAKING = _TEXT | _BINARY | {"PN", "UI"}
_CERTAIN = frozenset({"PN", "UI"})
"""What identifies whatever its attribute is called."""
_BREAK = re.compile(r"[\r\n]")
_PRINTABLE = re.compile(rb"[\x20-\x7e]{6,256}")
_PIXELS, _CHARACTER_SET, _INSTANCE = 0x7FE0, 0x00080005, 0x00080018
_OURS = frozenset(
    folded(v) for v in (REMOVED, IMPLEMENTATION_VERSION, IMPLEMENTATION_CLASS_UID, *CODES.values())
)
_TRANSLITERATED = str.maketrans(
    {"ä": "ae", "ö": "oe", "ü": "ue", "å": "aa", "ø": "oe", "æ": "ae", "œ": "oe", "ñ": "nn"}
)


class Needle(NamedTuple):
    """One value to look for.

    Attributes
    ----------
    attribute
        Tag and name of where it came from; the only part that may be shown.
    text
        The value, its case as it was.
    plain
        The value, :func:`~gateway.descriptors.folded`.
    strong
        Whether it is looked for in attributes carried over unchanged, too.
    coded
        The value in the original's own character set.
    """

    attribute: str
    text: str
    plain: str
    strong: bool
    coded: bytes

    def spellings(self) -> set[str]:
        """How the value may be written, :func:`~gateway.descriptors.folded`."""
        if self.text.isascii():
            return {self.plain}
        return {self.plain, folded(self.text.casefold().translate(_TRANSLITERATED))}


class Seen(NamedTuple):
    """One element as it stands in an object.

    Attributes
    ----------
    path
        Tags and item numbers that lead to it, its own tag last.
    tag
        Its tag.
    vr
        Its value representation, as stated or else from the dictionary.
    values
        Its values as text, without padding and without empty ones; none for numbers and bytes.
    data
        Its value, where that is bytes.
    """

    path: tuple[int, ...]
    tag: int
    vr: str
    values: list[str]
    data: bytes | memoryview


def walk(ds: Dataset, path: tuple[int, ...] = ()) -> list[Seen]:
    """Every readable element at every depth; what can be told from the bytes is not decoded."""
    found: list[Seen] = []
    for tag, raw in list(ds.items()):
        number = int(tag)
        here = (*path, number)
        if isinstance(raw, RawDataElement):
            vr, value = raw.VR or _vr_of(number), raw.value
            if value == b"" or (vr in _NUMBERS and len(value or b"") < MIN_BYTES):
                continue
            if vr == "SQ":
                items = reader.items(raw, ds)
                if items is not None:
                    found += _in_items(items, here)
                    continue
            elif (vr in _BYTES or vr in _NUMBERS) and isinstance(value, bytes | memoryview):
                found.append(Seen(here, number, vr, [], value))
                continue
            elif isinstance(value, bytes) and value.isascii() and b"\x1b" not in value:
                found.append(Seen(here, number, vr, _split(value.decode("ascii")), b""))
                continue
        try:
            element = ds[tag]
            value = element.value
        except Exception:  # noqa: BLE001, S112  unreadable here is unreadable to scrubbing: it did not pass
            continue
        if element.VR == "SQ":
            found += _in_items(value or [], here)
        elif isinstance(value, bytes | bytearray):
            found.append(Seen(here, number, element.VR, [], bytes(value)))
        elif element.VR not in _NUMBERS:
            several = list(value) if isinstance(value, MultiValue | list | tuple) else [value]
            texts = [t for v in several if v is not None and (t := str(v).strip(" \0"))]
            found.append(Seen(here, number, element.VR, texts, b""))
    return found


def _in_items(items: Iterable[Dataset], path: tuple[int, ...]) -> list[Seen]:
    if len(path) > 2 * MAX_DEPTH:
        return []
    return [seen for number, item in enumerate(items) for seen in walk(item, (*path, number))]


@lru_cache(8192)
def _vr_of(tag: int) -> str:
    """The VR of an attribute whose element does not state one."""
    return dictionary_VR(tag) if not tag >> 16 & 1 and dictionary_has_tag(tag) else "UN"


def _split(text: str) -> list[str]:
    if "\\" not in text:
        return [value] if (value := text.strip(" \0")) else []
    return [part for value in text.split("\\") if (part := value.strip(" \0"))]


def collect(original: Dataset, profile: Profile, seen: Iterable[Seen] | None = None) -> list[Needle]:
    """Every identifying value of an object as it was received: nested, private and file meta included.

    Days are not among them, see :func:`days_of`.

    Parameters
    ----------
    original
        As received.
    profile
        The one that was applied: what it keeps is not looked for.
    seen
        What :func:`walk` finds in it, where that is known already.
    """
    found: dict[tuple[str, str], Needle] = {}
    with quiet():
        encodings: list[str] | None = None
        sop_class = text_of(original, 0x00080016)
        meta = getattr(original, "file_meta", None) or Dataset()
        for element in (*walk(meta), *(walk(original) if seen is None else seen)):
            if element.vr not in _SPEAKING:
                continue
            label, strong = described(element.tag)
            certain = strong or element.vr in _CERTAIN
            for text in _identifying(element, profile, sop_class):
                plain = folded(text)
                if plain in _OURS or plain in STANDARD_WORDS or not plain.strip(plain[:1]):
                    continue
                if not certain and (label, plain) in found:
                    continue
                if text.isascii():
                    coded = text.encode("ascii")
                else:
                    encodings = encodings or convert_encodings([t for t in terms(original) if t] or None)
                    coded = _coded(text, encodings)
                found[label, plain] = Needle(label, text, plain, certain, coded)
    return list(found.values())


def days_of(original: Dataset, profile: Profile, seen: Iterable[Seen]) -> dict[date, str]:
    """The days in an object that the profile does not let pass, and the attribute each stands in."""
    sop_class = text_of(original, 0x00080016)
    found: dict[date, str] = {}
    for element in seen:
        if element.vr in _DATED and not _kept(element, profile, sop_class):
            for text in element.values:
                try:
                    day = date.fromisoformat(text[:10] if text[4:5] in "-." else text[:8])
                except ValueError:
                    continue
                if 1850 <= day.year <= 2150:
                    found.setdefault(day, described(element.tag)[0])
    return found


def _coded(text: str, encodings: list[str]) -> bytes:
    try:
        return bytes(encode_string(text, encodings))
    except Exception:  # noqa: BLE001  then only Unicode's encodings are looked for
        return text.encode("utf-8", "replace")


def _kept(element: Seen, profile: Profile, sop_class: str) -> bool:
    return profile.resolved(element.tag, sop_class)[1] is Action.KEEP


def _identifying(element: Seen, profile: Profile, sop_class: str) -> Iterable[str]:
    """Texts to look for."""
    _, tag, vr, values, data = element
    if tag >> 16 == _PIXELS or tag == _CHARACTER_SET:
        return ()
    # The file meta information names the instance once more.
    action = profile.resolved(_INSTANCE if tag == 0x00020003 else tag, sop_class)[1]
    if action is Action.KEEP or (action is Action.CLEAN and vr in _TEXT):
        return ()
    if vr == "PN":
        return [part for text in values for part in name_parts(text)]
    if vr == "UI":
        return [text for text in values if len(text) >= MIN_UID and not well_known(text)]
    if vr in _BINARY:
        runs = [run.decode("ascii").strip() for run in _PRINTABLE.findall(data)[:MAX_RUNS]]
        return [text for text in runs if _long_enough(text)]
    lines = [line.strip() for text in values if _BREAK.search(text) for line in text.splitlines()[1:]]
    return [text for text in (*values, *lines) if _long_enough(text)]


def _long_enough(text: str) -> bool:
    return len(text) >= (MIN_DIGITS if text.replace(".", "").replace("-", "").isdigit() else MIN_TEXT)
