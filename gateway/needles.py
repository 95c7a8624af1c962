"""What of an original identifies someone, as values to look for in the finished file.

A value is *strong* when it can only have come from this patient or place (names, identifiers, dates,
addresses, UIDs) and *weak* when it describes (a series, a device, a private remark). Strong values are looked
for everywhere, weak ones not in attributes that the profile carries over unchanged: a station that is called
like its camera's model is no leak.

What is too short or too common to prove anything is left out: names below 3 letters, other values below 4
characters, numbers below 5 digits, times of day, ages and plain numbers, and words of the standard itself.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from pydicom import DataElement, Dataset
from pydicom.charset import convert_encodings, encode_string
from pydicom.datadict import dictionary_description, dictionary_has_tag, dictionary_VR
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag

from gateway.mark import CODES
from gateway.part10 import quiet
from gateway.profiles import Action, Profile
from gateway.scrub import (
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION,
    MAX_DEPTH,
    REMOVED,
    terms,
    well_known,
)

MIN_NAME = 3
MIN_TEXT = 4
MIN_DIGITS = 5
MIN_UID = 6
MAX_RUNS = 1000

STANDARD_WORDS = frozenset(
    """abdomen anonymous arm axial back black blue body breast chest color colour date default derived digital
    ear elbow eye face female finger foot front full green hand head hip image index knee left leg lossless
    lossy male mixed modified monochrome monochrome1 monochrome2 mouth name neck none nose one original other
    palette palm patient pelvis photo photograph picture primary profile red removed rgb right scalp secondary
    shoulder skin study test thigh thumb time toe trunk unknown unspecified white wrist ybr yes
    zero""".split()  # noqa: SIM905  a list would take sixty lines
)
"""Words that stand in every other object; as a name or a remark they prove nothing."""

_STRONG = re.compile(
    r"\b(IDs?|Name|Names|Number|Numbers|Address|Telephone|Telecom|Institution|Institutional|Residence|Religious"
    r"|Occupation|Insurance|Owner|Serial|Identifier|Locator|Physician|Birth|Accession)\b"
)
_DEVICE = re.compile(r"\b(Station|Protocol|Device|Procedure|Lens|Detector|Model|Container|Manufacturer)\b")
_TEXT = frozenset({"LO", "SH", "ST", "LT", "UT", "UC", "UR", "AE", "CS"})
_BINARY = frozenset({"OB", "OW", "UN"})
_PRINTABLE = re.compile(rb"[\x20-\x7e]{6,256}")
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_DATE = re.compile(r"(\d{4})[.\-/]?(\d{2})[.\-/]?(\d{2})")
_PIXELS = 0x7FE0
_OURS = frozenset(
    v.casefold() for v in (REMOVED, IMPLEMENTATION_VERSION, IMPLEMENTATION_CLASS_UID, *CODES.values())
)


@dataclass(frozen=True, slots=True)
class Needle:
    """One value to look for.

    Attributes
    ----------
    attribute
        Tag and name of where it came from; the only part that may be shown.
    text
        The value, its case as it was.
    strong
        Whether it is looked for in attributes carried over unchanged, too.
    coded
        The value in the original's own character set.
    """

    attribute: str
    text: str
    strong: bool
    coded: bytes


def walk(ds: Dataset, path: tuple[int, ...] = ()) -> Iterator[tuple[tuple[int, ...], DataElement]]:
    """Every readable element at every depth, with the tags and item numbers that lead to it."""
    for tag in list(ds.keys()):
        try:
            element = ds[tag]
        except Exception:  # noqa: BLE001, S112  unreadable here is unreadable to scrubbing: it did not pass
            continue
        here = (*path, int(tag))
        if element.VR == "SQ" and len(path) < 2 * MAX_DEPTH:
            for number, item in enumerate(element.value or []):
                yield from walk(item, (*here, number))
        elif element.VR != "SQ":
            yield here, element


def values(element: DataElement) -> list[str]:
    """The element's values as text, without padding and without empty ones."""
    value = element.value
    several = list(value) if isinstance(value, MultiValue | list | tuple) else [value]
    return [t for v in several if v is not None and not isinstance(v, bytes) and (t := str(v).strip(" \0"))]


def collect(original: Dataset, profile: Profile) -> list[Needle]:
    """Every identifying value of an object as it was received: nested, private and file meta included."""
    found: dict[tuple[str, str], Needle] = {}
    with quiet():
        encodings = convert_encodings([t for t in terms(original) if t] or None)
        meta = getattr(original, "file_meta", None) or Dataset()
        for path, element in (*walk(meta), *walk(original)):
            label, strong = _described(element.tag)
            for text, certain in _identifying(path, element, profile):
                folded = text.casefold()
                if folded in _OURS or folded in STANDARD_WORDS or len(set(folded)) < 2:
                    continue
                try:
                    coded = encode_string(text, encodings)
                except Exception:  # noqa: BLE001  then only Unicode's encodings are looked for
                    coded = text.encode("utf-8", "replace")
                needle = Needle(label, text, strong or certain, coded)
                if needle.strong or (label, folded) not in found:
                    found[label, folded] = needle
    return list(found.values())


def dates_of(text: str) -> Iterator[str]:
    """A date as it may be written: YYYYMMDD, and with separators in the orders in use."""
    match = _DATE.match(text)
    if match is not None and "1800" <= match[1] <= "2200":
        y, m, d = match.groups()
        yield f"{y}{m}{d}"
        yield from (f"{y}{s}{m}{s}{d}" for s in "-/.:")
        yield from (f"{d}{s}{m}{s}{y}" for s in "-/.")
        yield f"{m}/{d}/{y}"


def _described(tag: BaseTag) -> tuple[str, bool]:
    """What may be shown of an attribute, and whether its values are strong by what it is."""
    if tag.is_private or not dictionary_has_tag(tag):
        return f"({tag.group:04X},{tag.element:04X})", False
    name = dictionary_description(tag)
    strong = bool(_STRONG.search(name)) and not _DEVICE.search(name)
    return f"({tag.group:04X},{tag.element:04X}) {name}", strong


def _identifying(path: tuple[int, ...], element: DataElement, profile: Profile) -> Iterator[tuple[str, bool]]:
    """Texts to look for, and whether they are strong whatever the attribute is called."""
    tag, vr = element.tag, element.VR
    known = not tag.is_private and dictionary_has_tag(tag)
    if tag.group == _PIXELS or (known and profile.action(int(tag), dictionary_VR(tag)) is Action.KEEP):
        return
    if vr in _BINARY:
        if isinstance(element.value, bytes):
            for run in _PRINTABLE.findall(element.value)[:MAX_RUNS]:
                yield from ((t, False) for t in _long_enough(run.decode("ascii").strip()))
        return
    for text in values(element):
        if vr == "PN":
            yield from ((part, True) for part in _name_parts(text))
        elif vr == "UI":
            if len(text) >= MIN_UID and not well_known(text):
                yield text, True
        elif vr in {"DA", "DT"}:
            yield from ((date, True) for date in dates_of(text))
        elif vr in _TEXT:
            yield from ((t, False) for t in _long_enough(text))
            for line in text.splitlines()[1:] if "\n" in text or "\r" in text else ():
                yield from ((t, False) for t in _long_enough(line.strip()))


def _name_parts(name: str) -> Iterator[str]:
    whole = name.rstrip("^= ")
    if len(whole) >= MIN_TEXT:
        yield whole
    for part in re.split(r"[\^=]", whole):
        if len(part.strip()) >= MIN_NAME:
            yield part.strip()
        yield from (word for word in _WORD.findall(part) if len(word) >= MIN_NAME)
        # An ideographic name has two or three signs and no more.
        if not part.isascii() and len(part.strip()) == 2:
            yield part.strip()


def _long_enough(text: str) -> Iterator[str]:
    if len(text) >= (MIN_DIGITS if text.replace(".", "").replace("-", "").isdigit() else MIN_TEXT):
        yield text
