"""Takes the identity out of the metadata: applies a profile to a Dataset, recursively (PS3.15 E.1 and E.3).

The result is a **new** data set. An element reaches it only by an action that says so; what cannot be read,
carries another value representation than the standard gives it, or is not named by the profile, does not.

The patient is identified by Patient ID and its issuer. Where the ID is empty, name, birth date and sex stand
in; where those are empty too, the study does, so that unidentified patients are never taken for one person.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pydicom import DataElement, Dataset
from pydicom.charset import convert_encodings, decode_bytes, encode_string, python_encoding
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataset import FileMetaDataset
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag
from pydicom.uid import UID

from gateway.errors import Held, Refused
from gateway.part10 import quiet
from gateway.profiles import SOP_CLASSES, Action, Profile
from gateway.pseudonym import Pseudonyms, keep_time, shift_date, shift_datetime

IMPLEMENTATION_CLASS_UID = "2.25.307838426846208512541870342586012574823"
IMPLEMENTATION_VERSION = "ANOSKIN_GATEWAY"
MAX_DEPTH = 64
REMOVED = "REMOVED"
"""The dummy for text that must not be empty; says nothing about what it replaces."""

CODING_SCHEMES = frozenset(
    {"DCM", "SCT", "SRT", "SNM3", "99SDM", "LN", "UCUM", "FMA", "RADLEX", "I9C", "I10", "I11"}
)
"""Schemes whose codes mean the same everywhere; a local scheme names the place that made it."""

_SPECIFIC_CHARACTER_SET = BaseTag(0x00080005)
_REQUIRED = (0x00080016, 0x00080018, 0x0020000D, 0x0020000E)
_META_GROUPS = frozenset({0x0000, 0x0002})
_TEXT = frozenset({"LO", "SH", "LT", "ST", "UC", "UT", "PN", "AE"})
_BYTES = frozenset({"OB", "OW", "OV", "OL", "OF", "OD"})
_CODED = re.compile(r"[A-Za-z0-9 _]{0,16}")
_DECIMAL = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
_SHIFTS: dict[str, Callable[[str, int], str | None]] = {
    "DA": shift_date,
    "DT": shift_datetime,
    "TM": lambda value, _: keep_time(value),
}
_DUMMIES: dict[str, object] = {
    **dict.fromkeys(("LO", "SH", "LT", "ST", "UC", "UT", "CS", "AE"), REMOVED),
    **dict.fromkeys(("US", "SS", "UL", "SL", "UV", "SV", "FL", "FD"), 0),
    **{"DA": "19000101", "TM": "000000", "DT": "19000101000000", "IS": "0", "DS": "0", "AS": "000D"},
}


@dataclass(frozen=True, slots=True)
class Patient:
    """Who the object is about, in original values; the key to everything that belongs to one patient."""

    value: str
    issuer: str
    kind: str

    @classmethod
    def of(cls, original: Dataset) -> "Patient":
        """The patient of a data set, by ID, else by name, birth date and sex, else by study."""
        identifier, issuer = text_of(original, 0x00100020), text_of(original, 0x00100021)
        if identifier:
            return cls(identifier, issuer, "patient")
        name, *others = (text_of(original, tag) for tag in (0x00100010, 0x00100030, 0x00100040))
        if name.strip("^= "):
            return cls("\\".join((name.rstrip("^= "), *others)), issuer, "patient-by-name")
        return cls(text_of(original, 0x0020000D), issuer, "patient-by-study")

    def pseudonym(self, pseudonyms: Pseudonyms) -> str:
        """The identifier that stands for this patient."""
        return pseudonyms.identifier(self.value, self.issuer, self.kind)

    def shift_days(self, pseudonyms: Pseudonyms) -> int:
        """The number of days by which this patient's dates move."""
        value = self.value if self.kind == "patient" else f"{self.kind}\\{self.value}"
        return pseudonyms.date_shift_days(value, self.issuer)


def text_of(ds: Dataset, tag: int) -> str:
    """The first value of an element as text without padding; empty where it is absent or cannot be read."""
    try:
        with quiet():
            element = ds.get(BaseTag(tag))
            value = None if element is None else element.value
            if isinstance(value, MultiValue | list | tuple):
                value = value[0] if value else None
    except Exception:  # noqa: BLE001  an unreadable element reads as an absent one
        return ""
    return "" if value is None or isinstance(value, bytes) else str(value).strip(" \0")


def well_known(uid: str) -> bool:
    """Whether the standard itself defines this UID (PS3.6 Annex A), so that it names no instance."""
    return bool(uid) and UID(uid).name != uid


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
        ``sop-class``: the profile is not resolved for this kind of object.
    Held
        ``unreadable``: no transfer syntax, no instance, series or study UID, or sequences deeper than 64 levels.
    """
    sop_class = text_of(original, 0x00080016)
    if sop_class not in SOP_CLASSES:
        raise Refused("sop-class", "this kind of object is not treated here")
    meta = getattr(original, "file_meta", None)
    syntax = "" if meta is None else text_of(meta, 0x00020010)
    if not well_known(syntax):
        raise Held("unreadable", "the object states no known transfer syntax")
    with quiet():
        scrubbing = _Scrubbing.of(original, profile, pseudonyms)
        clean = scrubbing.dataset(original, 0)
        if not all(text_of(clean, tag) for tag in _REQUIRED):
            raise Held("unreadable", "the object lacks one of the UIDs that say where it belongs")
        clean.PatientID = clean.PatientName = scrubbing.name
        _character_set(clean, original)
        clean.file_meta = _file_meta(clean, syntax)
    return clean


@dataclass(frozen=True, slots=True)
class _Scrubbing:
    """What every level of one object's recursion needs."""

    profile: Profile
    pseudonyms: Pseudonyms
    name: str
    days: int
    ascii_only: bool

    @classmethod
    def of(cls, original: Dataset, profile: Profile, pseudonyms: Pseudonyms) -> "_Scrubbing":
        patient = Patient.of(original)
        return cls(
            profile=profile,
            pseudonyms=pseudonyms,
            name=patient.pseudonym(pseudonyms),
            days=patient.shift_days(pseudonyms),
            ascii_only=not all(term in python_encoding for term in terms(original)),
        )

    def dataset(self, original: Dataset, depth: int) -> Dataset:
        if depth > MAX_DEPTH:
            raise Held("unreadable", f"sequences are nested deeper than {MAX_DEPTH} levels")
        clean = Dataset()
        for tag in original.keys():  # noqa: SIM118  iterating a Dataset would parse every element
            element = self.element(original, BaseTag(tag), depth)
            if element is not None:
                clean.add(element)
        return clean

    def element(self, original: Dataset, tag: BaseTag, depth: int) -> DataElement | None:
        vr, action = self._rule(tag)
        if action is Action.REMOVE:
            return None
        if action is Action.EMPTY:
            return DataElement(tag, vr, [] if vr == "SQ" else None)
        try:
            element = original[tag]
        except Exception:  # noqa: BLE001  what cannot be read does not pass
            return None
        if element.VR not in vr.split(" or "):
            return None
        if element.VR in _BYTES or element.VR in {"AT", "SQ"}:
            passed = self._sequence(element, depth) if vr == "SQ" else element
            return None if action is Action.DUMMY else passed
        values = _values(element)
        return self._replaced(element, values, action) if values else DataElement(tag, element.VR, None)

    def _rule(self, tag: BaseTag) -> tuple[str, Action]:
        """The standard's VR and the action; what the standard does not name is removed."""
        if tag.is_private or not dictionary_has_tag(tag) or tag.group in _META_GROUPS or tag.element == 0:
            return "UN", Action.REMOVE
        if tag == _SPECIFIC_CHARACTER_SET:
            return "CS", Action.REMOVE  # decided at the end, for all levels at once
        vr = dictionary_VR(tag)
        return vr, self.profile.action(int(tag), vr)

    def _replaced(self, element: DataElement, values: list[object], action: Action) -> DataElement | None:
        tag, vr = element.tag, element.VR
        if vr == "UI":
            # The table keeps only UIDs the standard defines; any other one stays where the operator says so.
            kept = action is Action.KEEP and int(tag) in self.profile.override
            uids = [str(v).strip(" \0") for v in values]
            return DataElement(
                tag, vr, [UID(u) if kept or well_known(u) else self.pseudonyms.uid(u) for u in uids if u]
            )
        if action is Action.CLEAN:
            moved = [_SHIFTS[vr](str(v), self.days) for v in values]
            # One value that cannot be moved empties the element: a date as it was would show the shift.
            return DataElement(tag, vr, None if None in moved else moved)
        if action is Action.DUMMY:
            if vr == "PN":
                return DataElement(tag, vr, self.pseudonyms.identifier(str(values[0]), kind="person"))
            if int(tag) == 0x00100020:
                return DataElement(tag, vr, self.pseudonyms.identifier(str(values[0])))
            return DataElement(tag, vr, _DUMMIES[vr]) if vr in _DUMMIES else None
        return DataElement(tag, vr, values) if self._passes(vr, values) else None

    def _passes(self, vr: str, values: list[object]) -> bool:
        """Whether kept values look like what their VR promises; free text hides where a code was expected."""
        texts = [str(v) for v in values]
        if vr == "CS":
            return all(_CODED.fullmatch(text) for text in texts)
        if vr in {"IS", "DS"}:
            return all(_DECIMAL.fullmatch(text.strip()) for text in texts)
        return vr not in _TEXT or not self.ascii_only or all(text.isascii() for text in texts)

    def _sequence(self, element: DataElement, depth: int) -> DataElement | None:
        items = [self.dataset(item, depth + 1) for item in element.value or []]
        kept = [item for item in items if len(item) and _means_the_same_everywhere(item)]
        return DataElement(element.tag, "SQ", kept) if kept else None


def _values(element: DataElement) -> list[object]:
    value = element.value
    values = list(value) if isinstance(value, MultiValue | list | tuple) else [value]
    return [] if all(v is None or str(v) == "" for v in values) else values


def _means_the_same_everywhere(item: Dataset) -> bool:
    if "CodeValue" not in item and "LongCodeValue" not in item and "CodeMeaning" not in item:
        return True
    return text_of(item, 0x00080102) in CODING_SCHEMES


def terms(original: Dataset) -> list[str]:
    """The values of Specific Character Set (PS3.3 C.12.1.1.2); one empty one where it is absent."""
    try:
        value = original.get("SpecificCharacterSet")
    except Exception:  # noqa: BLE001  unreadable: no term of the standard
        return ["unknown"]
    return [str(v) for v in value] if isinstance(value, MultiValue | list) else [str(value or "")]


def _texts(ds: Dataset) -> Iterator[str]:
    for element in ds:
        if element.VR == "SQ":
            for item in element.value:
                yield from _texts(item)
        elif element.VR in _TEXT:
            yield from (str(v) for v in _values(element))


def _character_set(clean: Dataset, original: Dataset) -> None:
    """States a character set only where text needs one: the original's if that can write it, else UTF-8."""
    texts = [text for text in _texts(clean) if not text.isascii()]
    if not texts:
        return
    stated = terms(original)
    encodings = convert_encodings(stated)
    faithful = all(decode_bytes(encode_string(t, encodings), encodings, set()) == t for t in texts)
    clean.SpecificCharacterSet = stated if faithful and stated != [""] else "ISO_IR 192"


def _file_meta(clean: Dataset, syntax: str) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = clean.SOPClassUID
    meta.MediaStorageSOPInstanceUID = clean.SOPInstanceUID
    meta.TransferSyntaxUID = UID(syntax)
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION
    return meta
