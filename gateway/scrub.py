"""Takes the identity out of the metadata: applies a profile to a Dataset, recursively (PS3.15 E.1 and E.3).

The result is a **new** data set. An element reaches it only by an action that says so; what cannot be read,
carries another value representation than the standard gives it, or is not named by the profile, does not.

What is kept and can be judged by its bytes passes as it was read, without being decoded and encoded again.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from pydicom import DataElement, Dataset
from pydicom.charset import convert_encodings, decode_bytes, encode_string, python_encoding
from pydicom.dataelem import RawDataElement
from pydicom.dataset import FileMetaDataset
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag
from pydicom.uid import UID
from pydicom.valuerep import VR

from gateway import reader
from gateway.content import SIZES, means_the_same_everywhere, stray, well_counted, whole
from gateway.descriptors import Identities, cleaned, folded
from gateway.errors import Held, Refused
from gateway.identities import (
    Patient,
    ascii_element,
    ascii_text,
    known_identities,
    scoped_identifier,
    terms,
    text_of,
    well_known,
)
from gateway.objects import storage_classes
from gateway.part10 import quiet
from gateway.profiles import Action, Profile
from gateway.pseudonym import Pseudonyms, keep_time, shift_date, shift_datetime

IMPLEMENTATION_CLASS_UID = "2.25.307838426846208512541870342586012574823"
IMPLEMENTATION_VERSION = "ANOSKIN_GATEWAY"
_VERSION = RawDataElement(BaseTag(0x00020001), "OB", 2, b"\x00\x01", 0, False, True)
MAX_DEPTH = 64
REMOVED = "REMOVED"
"""The dummy for text that must not be empty; says nothing about what it replaces."""

_REQUIRED = (0x00080016, 0x00080018, 0x0020000D, 0x0020000E)
_PATIENT_NAME, _PATIENT_ID = 0x00100010, 0x00100020
_TIME_ZONE, _IMAGE_TYPE = 0x00080201, 0x00080008
_FRAME_POINTER = 0x00280009
_CODES = frozenset({0x00080100, 0x00080102, 0x00080103, 0x00080119, 0x00080120})
_FREE = frozenset({"LO", "SH", "LT", "ST", "UC", "UT"})
_TEXT = _FREE | {"PN", "AE"}
_BYTES = frozenset({"OB", "OW", "OV", "OL", "OF", "OD"})
_MAYBE_BYTES = frozenset(str(vr) for vr in VR if not _BYTES.isdisjoint(vr.split(" or ")))
_TEXTS = frozenset({"AE", "AS", "CS", "DA", "DT", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UT"})
_SINGLE = frozenset({"LT", "ST", "UT"})
_UID = re.compile(r"[0-9.]{1,64}")
_CODED = re.compile(r"[A-Za-z0-9 _]{0,16}")
_DECIMAL = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
_AGE = re.compile(r" *\d{3}[DWMY] *")
_ZONE = re.compile(r"[+-](0\d|1[0-4])[0-5]\d")
_PLAIN: dict[str, re.Pattern[bytes]] = {
    "CS": re.compile(rb"(?:[A-Za-z0-9 _]{0,16}\\)*[A-Za-z0-9 _]{0,16}"),
    "DS": re.compile(rb"(?: *[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)? *(?:\\|\Z))+"),
    "IS": re.compile(rb"(?: *[+-]?\d+ *(?:\\|\Z))+"),
    **dict.fromkeys(_FREE, re.compile(rb"[\x20-\x7e]*")),
}
_SHIFTS: dict[str, Callable[[str, int], str | None]] = {
    "DA": shift_date,
    "DT": shift_datetime,
    "TM": lambda value, _: keep_time(value),
}
_SHAPES: dict[str, Callable[[str], object]] = {
    "CS": _CODED.fullmatch,
    **dict.fromkeys(("IS", "DS"), lambda text: _DECIMAL.fullmatch(text.strip())),
    "AS": _AGE.fullmatch,
    "DA": lambda text: shift_date(text, 0),
    "DT": lambda text: shift_datetime(text, 0),
    "TM": keep_time,
}
_DUMMIES: dict[str, object] = {
    **dict.fromkeys(("LO", "SH", "LT", "ST", "UC", "UT", "CS", "AE"), REMOVED),
    **dict.fromkeys(("US", "SS", "UL", "SL", "UV", "SV", "FL", "FD"), 0),
    **{"DA": "19000101", "TM": "000000", "DT": "19000101000000", "IS": "0", "DS": "0", "AS": "000D"},
}


def scrub(original: Dataset, profile: Profile, pseudonyms: Pseudonyms) -> Dataset:
    """A new data set with file meta, without the original's identity; pixel data is carried over untouched.

    Parameters
    ----------
    original
        As read by :func:`gateway.part10.read`; it is not changed.
    profile
        What happens to each attribute.
    pseudonyms
        The site's keyed functions.

    Returns
    -------
    Dataset
        Its ``file_meta`` holds standard elements only; (0012,006x) and (0028,030x) are left to
        :func:`gateway.mark.mark`.

    Raises
    ------
    Refused
        ``sop-class``: the standard does not know this kind of object. Which kinds may come this far is decided
        before; attributes whose type in a kind is not known here are treated by the strongest action.
    Held
        ``unreadable``: no transfer syntax, no instance, series or study UID, or sequences deeper than 64 levels.
    """
    sop_class = text_of(original, 0x00080016)
    if sop_class not in storage_classes().values():
        raise Refused("sop-class", "this kind of object is not known to the standard")
    meta = getattr(original, "file_meta", None)
    syntax = "" if meta is None else text_of(meta, 0x00020010)
    if not well_known(syntax):
        raise Held("unreadable", "the object states no known transfer syntax")
    with quiet():
        scrubbing = _Scrubbing.of(original, profile, pseudonyms, sop_class)
        clean = scrubbing.dataset(original, 0)
        if not all(text_of(clean, tag) for tag in _REQUIRED):
            raise Held("unreadable", "the object lacks one of the UIDs that say where it belongs")
        if _FRAME_POINTER in clean and not _targets(clean) <= clean.keys():
            del clean[_FRAME_POINTER]  # it told how frames follow each other by what did not pass
        for tag in stray(clean, UID(syntax).is_encapsulated):
            del clean[tag]
        _character_set(clean, original, scrubbing.foreign)
        clean.file_meta = _file_meta(clean, syntax)
    return clean


def _targets(clean: Dataset) -> set[BaseTag]:
    value = clean[_FRAME_POINTER].value
    several = value if isinstance(value, MultiValue | list) else [value]
    return {BaseTag(tag) for tag in several if tag is not None}


@dataclass(frozen=True)
class _Scrubbing:
    """What every level of one object's recursion needs."""

    original: Dataset
    profile: Profile
    pseudonyms: Pseudonyms
    sop_class: str
    patient: Patient
    name: str
    days: int
    ascii_only: bool
    encoding: tuple[bool, bool]
    foreign: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, original: Dataset, profile: Profile, pseudonyms: Pseudonyms, sop_class: str) -> "_Scrubbing":
        patient = Patient.of(original, profile.issuer)
        implicit, little = original.original_encoding
        return cls(
            original=original,
            profile=profile,
            pseudonyms=pseudonyms,
            sop_class=sop_class,
            patient=patient,
            name=patient.pseudonym(pseudonyms),
            days=patient.shift_days(pseudonyms),
            ascii_only=not all(term in python_encoding for term in terms(original)),
            encoding=(bool(implicit), little is not False),
        )

    @cached_property
    def identities(self) -> Identities:
        """Who and what must not stand in any text that stays; looked up only where there is one."""
        return known_identities(self.original, self.profile, self.sop_class)

    def dataset(self, original: Dataset, depth: int) -> Dataset:
        if depth > MAX_DEPTH:
            raise Held("unreadable", f"sequences are nested deeper than {MAX_DEPTH} levels")
        passed: dict[BaseTag, DataElement | RawDataElement] = {}
        resolved, sop_class = self.profile.resolved, self.sop_class
        for tag, raw in list(original.items()):
            number = int(tag)
            if number >> 16 & 1:
                if self.profile.keeps_private:
                    passed.update(self._private(original, tag, raw))
                continue
            vr, action = resolved(number, sop_class)
            if action is not Action.REMOVE:
                element = self._element(original, tag, raw, vr, action, depth)
                if element is not None:
                    passed[tag] = element
        for number in (_PATIENT_NAME, _PATIENT_ID) if depth == 0 else ():
            vr, action = resolved(number, sop_class)
            if action is Action.DUMMY:  # also where the original has none
                passed[reader.tag_of(number)] = self.written(reader.tag_of(number), vr, self.name)
        sequences = [element for element in passed.values() if element.VR == "SQ"]
        clean = reader.data_set(passed)
        for element in sequences:
            clean[element.tag] = element  # so that its items know where they belong
        implicit, little = original.original_encoding
        if implicit is not None:
            clean.set_original_encoding(implicit, little, original.original_character_set)
        return clean

    def written(self, tag: BaseTag, vr: str, text: str) -> RawDataElement:
        """An element of ASCII text as a reader of this object would have found it."""
        return ascii_element(tag, vr, text, *self.encoding)

    def _element(  # noqa: PLR0911, PLR0913, PLR0917  one way out for each kind of element
        self,
        original: Dataset,
        tag: BaseTag,
        raw: DataElement | RawDataElement,
        vr: str,
        action: Action,
        depth: int,
    ) -> DataElement | RawDataElement | None:
        if action is Action.EMPTY:
            return DataElement(tag, "SQ", []) if vr == "SQ" else self.written(tag, vr, "")
        if depth and vr in _MAYBE_BYTES:
            return None  # palettes, profiles and pixels describe the picture; within an item they may be another one
        if isinstance(raw, RawDataElement):
            if (raw.VR not in {None, vr} and raw.VR not in vr.split(" or ")) or not well_counted(raw, vr):
                return None
            if action is Action.KEEP and self._passes_unread(raw, vr):
                return raw
            if vr in _TEXTS and (text := ascii_text(raw)) is not None:
                texts = [text.rstrip(" \0")] if vr in _SINGLE else text.strip(" \0").split("\\")
                return self._replaced(tag, vr, texts, action) if any(texts) else self.written(tag, vr, "")
            if vr == "SQ" and (items := reader.items(raw, original)) is not None:
                return None if action is Action.DUMMY else self._sequence(tag, items, depth)
        try:
            element = original[tag]
        except Exception:  # noqa: BLE001  what cannot be read does not pass
            return None
        if element.VR not in vr.split(" or "):
            return None
        if element.VR == "SQ":
            return None if action is Action.DUMMY else self._sequence(tag, element.value or [], depth)
        if element.VR in _BYTES or element.VR == "AT":
            return None if action is Action.DUMMY else element
        values = _values(element)
        if not values:
            return DataElement(tag, element.VR, None)
        return self._replaced(tag, element.VR, values, action)

    def _passes_unread(self, raw: RawDataElement, vr: str) -> bool:  # noqa: PLR0911  as above
        """Whether the bytes alone show that the value may stay; if not, that is decided on the decoded value."""
        value = raw.value
        vr = raw.VR or vr
        if not value:
            return vr != "SQ"
        if vr in _BYTES:
            return True
        if vr in SIZES:
            return len(value) % SIZES[vr] == 0
        if vr not in _PLAIN or _PLAIN[vr].fullmatch(value) is None:
            return False
        if int(raw.tag) == _IMAGE_TYPE:
            words = value.decode("ascii").split("\\")
            return self._unnamed(words) == words
        if vr not in _FREE or int(raw.tag) in _CODES:
            return True
        text = value.decode("ascii")
        return self.identities.without(text) == text

    def _replaced(
        self, tag: BaseTag, vr: str, values: Sequence[object], action: Action
    ) -> DataElement | RawDataElement | None:
        if vr == "UI":
            return self._uids(tag, [str(v).strip(" \0") for v in values], action)
        if action is Action.CLEAN:
            return self._cleaned(tag, vr, values)
        if action is Action.DUMMY:
            return self._dummy(tag, vr, values)
        if not self._passes(vr, values):
            return None
        if vr in _FREE and int(tag) not in _CODES:
            kept = [self.identities.without(str(v)) for v in values]
            return self._text(tag, vr, kept) if any(kept) else self._fallback(tag, vr)
        if int(tag) == _IMAGE_TYPE:
            values = self._unnamed([str(v) for v in values])
        return self._text(tag, vr, values)

    def _unnamed(self, words: list[str]) -> list[str]:
        """Image Type; behind the two words that always have to be there, one in which an identity stands is OTHER."""
        return words[:2] + [w if self.identities.without(w) == w else "OTHER" for w in words[2:]]

    def _uids(self, tag: BaseTag, uids: list[str], action: Action) -> RawDataElement:
        # The table keeps only UIDs the standard defines; others stay where the operator or an option says so.
        kept = action is Action.KEEP and self.profile.keeps_uid(int(tag))
        new = [
            u if well_known(u) or (kept and _UID.fullmatch(u)) else self.pseudonyms.uid(u) for u in uids if u
        ]
        return self.written(tag, "UI", "\\".join(new))

    def _cleaned(
        self, tag: BaseTag, vr: str, values: Sequence[object]
    ) -> DataElement | RawDataElement | None:
        texts = [str(v) for v in values]
        if vr in _SHIFTS:
            moved = [_SHIFTS[vr](text, self.days) for text in texts]
            # One value that cannot be moved empties the element: a date as it was would show the shift.
            return self.written(tag, vr, "" if None in moved else "\\".join(m for m in moved if m))
        if int(tag) == _TIME_ZONE:
            return self.written(tag, vr, texts[0]) if _ZONE.fullmatch(texts[0].strip()) else None
        if vr in _TEXT or (vr == "CS" and self.profile.describes(int(tag))):
            words = frozenset(map(folded, self.profile.words))
            left = [cleaned(text, self.identities, words) for text in texts]
            return self._text(tag, vr, left) if any(left) else self._fallback(tag, vr)
        return DataElement(tag, vr, list(values)) if self._passes(vr, values) else None

    def _dummy(self, tag: BaseTag, vr: str, values: Sequence[object]) -> DataElement | RawDataElement | None:
        identifier = scoped_identifier(self.original, int(tag), str(values[0]), self.patient, self.pseudonyms)
        if identifier is not None:
            return self.written(tag, vr, identifier)
        if vr == "PN":
            return self.written(tag, vr, self.pseudonyms.identifier(str(values[0]), kind="person"))
        return DataElement(tag, vr, _DUMMIES[vr]) if vr in _DUMMIES else None

    def _fallback(self, tag: BaseTag, vr: str) -> DataElement | RawDataElement | None:
        """What the basic profile leaves where nothing of a text could stay."""
        action = self.profile.fallback(int(tag), self.sop_class)
        if action is Action.REMOVE:
            return None
        if vr == "SQ":
            return DataElement(tag, vr, []) if action is Action.EMPTY else None
        return DataElement(tag, vr, _DUMMIES[vr]) if action is Action.DUMMY else self.written(tag, vr, "")

    def _text(self, tag: BaseTag, vr: str, values: Sequence[object]) -> DataElement | RawDataElement:
        texts = [v for v in values if isinstance(v, str) and v.isascii()]
        if len(texts) == len(values):
            return self.written(tag, vr, "\\".join(texts))
        self.foreign.extend(text for v in values if not (text := str(v)).isascii())
        return DataElement(tag, vr, list(values))

    def _passes(self, vr: str, values: Sequence[object]) -> bool:
        """Whether kept values look like what their VR promises; free text hides where a code was expected."""
        texts = [str(v) for v in values]
        if vr in _SHAPES:
            return all(map(_SHAPES[vr], texts))
        return vr not in _TEXT or not self.ascii_only or all(text.isascii() for text in texts)

    def _sequence(
        self, tag: BaseTag, items: Sequence[Dataset], depth: int
    ) -> DataElement | RawDataElement | None:
        clean = [self.dataset(item, depth + 1) for item in items]
        kept = [item for item in clean if len(item) and means_the_same_everywhere(item) and whole(item)]
        return DataElement(tag, "SQ", kept) if kept else self._fallback(tag, "SQ")

    def _private(
        self, original: Dataset, tag: BaseTag, raw: DataElement | RawDataElement
    ) -> dict[BaseTag, DataElement | RawDataElement]:
        """A private element that is known to be safe, with the creator of its block (PS3.5 7.8)."""
        creator_tag = BaseTag(tag.group << 16 | tag.element >> 8)
        if tag.element < 0x1000:
            return {}
        creator = text_of(original, creator_tag)
        vr = self.profile.safe_private(creator, tag.group, tag.element & 0xFF)
        if vr is None:
            return {}
        if isinstance(raw, RawDataElement):
            raw = raw._replace(VR=vr) if raw.VR in {None, "UN"} else raw
            passes = vr == raw.VR and self._passes_unread(raw, vr)
        else:
            passes = vr == raw.VR and self._passes(vr, _values(raw))
        return {creator_tag: self.written(creator_tag, "LO", creator), tag: raw} if passes else {}


def _values(element: DataElement) -> list[object]:
    value = element.value
    values = list(value) if isinstance(value, MultiValue | list | tuple) else [value]
    return [] if all(v is None or str(v) == "" for v in values) else values


def _character_set(clean: Dataset, original: Dataset, texts: list[str]) -> None:
    """States a character set only where text needs one: the original's if that can write it, else UTF-8."""
    if not texts:
        return
    stated = terms(original)
    encodings = convert_encodings(stated)
    faithful = all(decode_bytes(encode_string(t, encodings), encodings, set()) == t for t in texts)
    clean.SpecificCharacterSet = stated if faithful and stated != [""] else "ISO_IR 192"


def _file_meta(clean: Dataset, syntax: str) -> FileMetaDataset:
    elements = [
        ascii_element(0x00020002, "UI", text_of(clean, 0x00080016)),
        ascii_element(0x00020003, "UI", text_of(clean, 0x00080018)),
        ascii_element(0x00020010, "UI", syntax),
        ascii_element(0x00020012, "UI", IMPLEMENTATION_CLASS_UID),
        ascii_element(0x00020013, "SH", IMPLEMENTATION_VERSION),
    ]
    return FileMetaDataset({_VERSION.tag: _VERSION, **{element.tag: element for element in elements}})
