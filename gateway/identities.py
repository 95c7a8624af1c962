"""Who an object is about, and what in it says so.

The patient is identified by Patient ID and its issuer. Where the ID is empty, name (normalised), birth date and sex
stand in; where those are empty too, the study does, so that unidentified patients are never taken for one person.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache

from pydicom import DataElement, Dataset
from pydicom.datadict import dictionary_description, dictionary_has_tag, dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag
from pydicom.uid import UID

from gateway import reader
from gateway.descriptors import Identities
from gateway.part10 import quiet
from gateway.profiles import Action, Profile
from gateway.pseudonym import Pseudonyms, normal_name

PATIENT_ID, ACCESSION_NUMBER, STUDY_ID = 0x00100020, 0x00080050, 0x00200010

_STRONG = re.compile(
    r"\b(IDs?|Name|Names|Number|Numbers|Address|Telephone|Telecom|Institution|Institutional|Residence|Religious"
    r"|Occupation|Insurance|Owner|Serial|Identifier|Locator|Physician|Birth|Accession)\b"
)
_DEVICE = re.compile(r"\b(Station|Protocol|Device|Procedure|Lens|Detector|Model|Container|Manufacturer)\b")
_TEXT = frozenset(
    {"AE", "AS", "CS", "DA", "DT", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UT", "IS", "DS"}
)
_VALUES = frozenset({"LO", "SH", "ST", "LT", "UT", "UC"})


@dataclass(frozen=True, slots=True)
class Patient:
    """Who the object is about, in original values; the key to everything that belongs to one patient."""

    value: str
    issuer: str
    kind: str

    @classmethod
    def of(cls, original: Dataset, issuer: str = "") -> "Patient":
        """The patient of a data set, by ID, else by name, birth date and sex, else by study.

        Parameters
        ----------
        original
            As received.
        issuer
            Who gave the ID where the data set does not say.
        """
        identifier = text_of(original, PATIENT_ID)
        if identifier:
            stated = text_of(original, 0x00100021) or _issuer_in(original, 0x00100024)
            return cls(identifier, stated or issuer, "patient")
        name, *others = (text_of(original, tag) for tag in (0x00100010, 0x00100030, 0x00100040))
        if name.strip("^= "):
            return cls("\\".join((normal_name(name), *others)), issuer, "patient-by-name")
        return cls(text_of(original, 0x0020000D), issuer, "patient-by-study")

    def pseudonym(self, pseudonyms: Pseudonyms) -> str:
        """The identifier that stands for this patient."""
        return pseudonyms.identifier(self.value, self.issuer, self.kind)

    def shift_days(self, pseudonyms: Pseudonyms) -> int:
        """The number of days by which this patient's dates move."""
        value = self.value if self.kind == "patient" else f"{self.kind}\\{self.value}"
        return pseudonyms.date_shift_days(value, self.issuer)


def scoped_identifier(
    original: Dataset, tag: int, value: str, patient: Patient, pseudonyms: Pseudonyms
) -> str | None:
    """The pseudonym of a patient's or study's identifier; ``None`` for other attributes.

    Accession numbers belong to their issuer, study IDs (often 1, 2, 3 …) to their patient.
    """
    if tag == PATIENT_ID:
        if value.strip() == patient.value:
            return patient.pseudonym(pseudonyms)
        return pseudonyms.identifier(value, patient.issuer)
    if tag == ACCESSION_NUMBER:
        return pseudonyms.identifier(value, accession_issuer(original) or patient.issuer, "accession")
    if tag == STUDY_ID:
        return pseudonyms.identifier(value, "\\".join((patient.kind, patient.issuer, patient.value)), "study")
    return None


def accession_issuer(ds: Dataset) -> str:
    """Who gave the accession number; empty where the data set does not say."""
    return _issuer_in(ds, 0x00080051)


def _issuer_in(ds: Dataset, tag: int) -> str:
    """The first item's universal or local entity (PS3.3 10.14 and 10.17) in an issuer sequence."""
    try:
        items = ds[tag].value if tag in ds else []
        first = items[0] if items else None
    except Exception:  # noqa: BLE001  an unreadable element reads as an absent one
        return ""
    return "" if first is None else text_of(first, 0x00400032) or text_of(first, 0x00400031)


def text_of(ds: Dataset, tag: int) -> str:
    """The first value of an element as text without padding; empty where it is absent or cannot be read."""
    try:
        raw: DataElement | RawDataElement | None = ds.get_item(reader.tag_of(tag))
        if raw is None:
            return ""
        if isinstance(raw, RawDataElement) and (text := ascii_text(raw)) is not None:
            return text.split("\\", 1)[0].strip(" \0")
        with quiet():
            element = ds.get(reader.tag_of(tag))
            value = None if element is None else element.value
            if isinstance(value, MultiValue | list | tuple):
                value = value[0] if value else None
    except Exception:  # noqa: BLE001  an unreadable element reads as an absent one
        return ""
    return "" if value is None or isinstance(value, bytes) else str(value).strip(" \0")


def items_of(ds: Dataset, tag: int) -> Sequence[Dataset]:
    """The items of a sequence; none where it is absent or cannot be read."""
    try:
        raw: DataElement | RawDataElement | None = ds.get_item(reader.tag_of(tag))
        if isinstance(raw, RawDataElement) and (found := reader.items(raw, ds)) is not None:
            return found
        return [] if raw is None else ds[tag].value or []
    except Exception:  # noqa: BLE001  an unreadable element reads as an absent one
        return []


def ascii_text(raw: RawDataElement) -> str | None:
    """The text of an element that was not decoded yet, where it is plain ASCII; ``None`` where it is not."""
    vr, value = raw.VR, raw.value
    if vr is None:
        vr = dictionary_VR(raw.tag) if dictionary_has_tag(raw.tag) else "UN"
    if vr not in _TEXT or value is None or not value.isascii() or b"\x1b" in value:
        return None
    return value.decode("ascii")


def ascii_element(
    tag: int, vr: str, text: str, implicit: bool = False, little: bool = True
) -> RawDataElement:
    """An element of ASCII text as a reader would have found it, so that it need not be encoded again."""
    value = text.encode("ascii")
    if len(value) % 2:
        value += b"\0" if vr == "UI" else b" "
    tag = tag if isinstance(tag, BaseTag) else reader.tag_of(tag)
    return RawDataElement(tag, vr, len(value), value, 0, implicit, little)


def terms(original: Dataset) -> list[str]:
    """The values of Specific Character Set (PS3.3 C.12.1.1.2); one empty one where it is absent."""
    try:
        raw: DataElement | RawDataElement | None = original.get_item(reader.tag_of(0x00080005))
        if isinstance(raw, RawDataElement) and (text := ascii_text(raw)) is not None:
            return [term.rstrip(" \0") for term in text.split("\\")]
        value = original.get("SpecificCharacterSet")
    except Exception:  # noqa: BLE001  unreadable: no term of the standard
        return ["unknown"]
    return [str(v) for v in value] if isinstance(value, MultiValue | list) else [str(value or "")]


@lru_cache(4096)
def well_known(uid: str) -> bool:
    """Whether the standard itself defines this UID (PS3.6 Annex A), so that it names no instance."""
    return bool(uid) and UID(uid).name != uid


@lru_cache(8192)
def described(tag: int) -> tuple[str, bool]:
    """What may be shown of an attribute, and whether its values can only have come from this patient or place."""
    label = f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
    if (tag >> 16) & 1 or not dictionary_has_tag(tag):
        return label, False
    name = dictionary_description(tag)
    return f"{label} {name}", bool(_STRONG.search(name)) and not _DEVICE.search(name)


def known_identities(original: Dataset, profile: Profile, sop_class: str) -> Identities:
    """The names, identifiers, places and days in ``original`` that ``profile`` does not let pass."""
    names: list[str] = []
    values: list[str] = []
    days: set[date] = set()
    for kind, text in _found(original, profile, sop_class, 0):
        if kind == "PN":
            names.append(text)
        elif kind == "DA":
            try:
                days.add(date.fromisoformat(text[:8]))
            except ValueError:
                continue
        else:
            values.append(text)
    return Identities.of(names, values, days)


def _found(ds: Dataset, profile: Profile, sop_class: str, depth: int) -> Iterator[tuple[str, str]]:
    for tag, raw in list(ds.items()):
        number = int(tag)
        kind = _kind(number)
        if kind is None and not (number >> 16 & 1 and getattr(raw, "VR", "") == "PN"):
            continue
        if kind == "SQ":
            for item in items_of(ds, number) if depth < 8 else ():
                yield from _found(item, profile, sop_class, depth + 1)
        elif kind is None or profile.resolved(number, sop_class)[1] is not Action.KEEP:
            for text in _texts(ds, tag, raw):
                yield kind or "PN", text


def _texts(ds: Dataset, tag: BaseTag, raw: DataElement | RawDataElement) -> list[str]:
    if isinstance(raw, RawDataElement) and (whole := ascii_text(raw)) is not None:
        return [text for part in whole.split("\\") if (text := part.strip(" \0"))]
    try:
        value = ds[tag].value
    except Exception:  # noqa: BLE001  unreadable here is unreadable to scrubbing: it does not pass
        return []
    several = value if isinstance(value, MultiValue | list | tuple) else [value]
    return [text for v in several if v is not None and (text := str(v).strip(" \0"))]


@lru_cache(8192)
def _kind(tag: int) -> str | None:
    """``PN``, ``DA``, ``SQ``, or ``LO`` for other values that identify; ``None`` for what does not."""
    if (tag >> 16) & 1 or not dictionary_has_tag(tag):
        return None
    vr = dictionary_VR(tag)
    if vr in {"PN", "SQ"}:
        return vr
    if vr in {"DA", "DT"}:
        return "DA"
    return "LO" if vr in _VALUES and described(tag)[1] else None
