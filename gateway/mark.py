"""States in the object what was done to it (PS3.15 E.1.1, PS3.3 C.12.1.1.9), and checks such statements.

The derivation code is (113047, DCM, "Pixel by pixel mask") of CID 7203: pixels inside a mask were replaced.
The context group offers nothing closer to inpainting, and a private code would mean nothing to the reader.
"""

from collections.abc import Sequence
from functools import cache, lru_cache

from pydicom import DataElement, Dataset
from pydicom.dataelem import RawDataElement
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_sequence
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag

from gateway import profiles
from gateway.identities import ascii_element, items_of, text_of
from gateway.part10 import quiet
from gateway.profiles import Option, Profile

CODES = {
    "113100": "Basic Application Confidentiality Profile",
    "113101": "Clean Pixel Data Option",
    "113102": "Clean Recognizable Visual Features Option",
    "113103": "Clean Graphics Option",
    "113104": "Clean Structured Content Option",
    "113105": "Clean Descriptors Option",
    "113106": "Retain Longitudinal Temporal Information Full Dates Option",
    "113107": "Retain Longitudinal Temporal Information Modified Dates Option",
    "113108": "Retain Patient Characteristics Option",
    "113109": "Retain Device Identity Option",
    "113110": "Retain UIDs Option",
    "113111": "Retain Safe Private Option",
    "113112": "Retain Institution Identity Option",
}
"""CID 7050."""

PIXEL_BY_PIXEL_MASK = ("113047", "Pixel by pixel mask")
METHOD = "Ano-Skin Gateway, PS3.15 Annex E"
DERIVATION = (
    "Regions that show the person were replaced by generated content; all other pixels are unchanged."
)

_DERIVATION_CODES = 0x00089215
_SAID_OF_PIXELS = (0x00280301, 0x00280302)
_PIXELS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
_ABSENT = {
    0x00082112: "(0008,2112) names the source",
    0x00880200: "(0088,0200) holds an icon image",
    0x04000561: "(0400,0561) holds original attributes",
    0xFFFCFFFC: "(FFFC,FFFC) holds trailing padding",
}


def mark(  # noqa: PLR0913  every argument is one statement in the object
    ds: Dataset,
    profile: Profile,
    *,
    pixels_clean: bool,
    features_clean: bool,
    edited: bool,
    remarks: Sequence[str] = (),
) -> None:
    """Adds the de-identification attributes to a scrubbed data set, in place; nothing is claimed that is not
    told.

    Parameters
    ----------
    ds
        From :func:`gateway.scrub.scrub`.
    profile
        The one that was applied; each of its options is stated by its code, and what became of dates by (0028,0303).
    pixels_clean
        The pixels were searched for text and hold none that is not allowed: 113101, (0028,0301) NO.
    features_clean
        Nobody can be recognised in the pixels: 113102, (0028,0302) NO. Where there are pixels and this is not so,
        (0012,0062) is NO: it speaks of attributes and pixels (PS3.3 C.7.1.1).
    edited
        Pixels were replaced: Image Type value 1 DERIVED, derivation description and code (PS3.3 C.7.6.1.1.2).
    remarks
        Further values of (0012,0063), at most 64 characters each.
    """
    stated = stated_codes(profile, pixels_clean=pixels_clean, features_clean=features_clean)
    methods = [METHOD, f"profile {profile.name}"[:64], *(r[:64] for r in remarks)]
    with quiet():
        removed = "YES" if features_clean or _PIXELS.isdisjoint(ds.keys()) else "NO"
        ds[0x00120062] = ascii_element(0x00120062, "CS", removed)
        ds[0x00120063] = _methods(methods)
        ds[0x00120064] = _codes(tuple(stated))
        ds[0x00280303] = ascii_element(0x00280303, "CS", _dates(profile))
        if pixels_clean:
            ds[0x00280301] = ascii_element(0x00280301, "CS", "NO")
        if features_clean:
            ds[0x00280302] = ascii_element(0x00280302, "CS", "NO")
        if edited:
            ds.ImageType = ["DERIVED", *(_values(ds)[1:] or ["PRIMARY"])]
            ds.DerivationDescription = DERIVATION
            kept = [
                item for item in items_of(ds, _DERIVATION_CODES) if _value(item) != PIXEL_BY_PIXEL_MASK[0]
            ]
            ds.DerivationCodeSequence = [*kept, _code(*PIXEL_BY_PIXEL_MASK)]


def says_identifying(original: Dataset) -> bool:
    """Whether an object states that text is burned into its pixels, or that a person can be recognised in them."""
    return any(text_of(original, tag) == "YES" for tag in _SAID_OF_PIXELS)


def repeat(ds: Dataset, original: Dataset) -> None:
    """Leaves what the sender said of pixels that nobody looks at here: some kinds of object must say it."""
    for tag in _SAID_OF_PIXELS:
        if text_of(original, tag) == "NO":
            ds[tag] = ascii_element(tag, "CS", "NO")


def stated_codes(profile: Profile, *, pixels_clean: bool, features_clean: bool) -> list[str]:
    """The codes of CID 7050 that are true of an object, in their order."""
    options = [profiles.CODES[option] for option in profile.options]
    return sorted(["113100", *["113101"] * pixels_clean, *["113102"] * features_clean, *options])


def _dates(profile: Profile) -> str:
    if profile.moves_dates:
        return "MODIFIED"
    return "UNMODIFIED" if Option.FULL_DATES in profile.options else "REMOVED"


def markers(ds: Dataset, profile: Profile, *, edited: bool | None = None, seen: bool = True) -> list[str]:
    """What is missing or contradicts itself in a finished object, one sentence each; empty when all is well.

    Parameters
    ----------
    ds
        The finished object, as read back.
    profile
        The one that was applied.
    edited
        Whether pixels were replaced; ``None`` where that is not known here.
    seen
        Whether pixels were looked at; of others nothing may be claimed.
    """
    codes = _codes_in(ds)
    derived = text_of(ds, 0x00080008) == "DERIVED"
    described = bool(text_of(ds, 0x00082111)) and PIXEL_BY_PIXEL_MASK[0] in {
        _value(item) for item in items_of(ds, _DERIVATION_CODES)
    }
    clean = {"pixels_clean": "113101" in codes, "features_clean": "113102" in codes}
    meta, keeps_private = getattr(ds, "file_meta", None), profile.keeps_private
    checks = {
        "(0012,0062) is not what was done": text_of(ds, 0x00120062)
        == ("YES" if "113102" in codes or _PIXELS.isdisjoint(ds.keys()) else "NO"),
        "something is claimed of pixels nobody looked at": seen or codes.isdisjoint({"113101", "113102"}),
        "(0012,0063) is empty": bool(text_of(ds, 0x00120063)),
        "(0012,0064) lacks 113100": "113100" in codes,
        "(0012,0064) states other options than were applied": codes == set(stated_codes(profile, **clean)),
        "113101 and (0028,0301) disagree": "113101" not in codes or text_of(ds, 0x00280301) == "NO",
        "113102 and (0028,0302) disagree": "113102" not in codes or text_of(ds, 0x00280302) == "NO",
        "(0028,0303) is not what became of the dates": text_of(ds, 0x00280303) == _dates(profile),
        "pixels were replaced and the derivation is not stated": edited is not True
        or (derived and described),
        "a derivation is stated though no pixel was replaced": edited is not False or not described,
        "the SOP Instance UID is not a pseudonym": profile.keeps_uid(0x00080018)
        or text_of(ds, 0x00080018).startswith("2.25."),
        "file meta names another instance": meta is not None
        and text_of(meta, 0x00020003) == text_of(ds, 0x00080018)
        and text_of(meta, 0x00020002) == text_of(ds, 0x00080016),
        "file meta holds more than it must": meta is not None
        and all(0x00020000 <= tag <= 0x00020013 for tag in meta.keys()),  # noqa: SIM118
        "private or overlay elements are left": not any(
            (tag >> 16 & 1 and not keeps_private) or tag >> 24 in {0x50, 0x60}
            for tag in map(int, ds.keys())  # iterating a Dataset would parse every element
        ),
        **{
            sentence: tag not in ds or profile.keeps_uid(tag) or tag in profile.override
            for tag, sentence in _ABSENT.items()
        },
    }
    return [sentence for sentence, true in checks.items() if not true]


@cache
def _codes(stated: tuple[str, ...]) -> RawDataElement:
    """(0012,0064) as a reader of Explicit VR Little Endian would have found it."""
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = False, True
    write_sequence(buffer, DataElement(0x00120064, "SQ", [_code(c, CODES[c]) for c in stated]), ["iso8859"])
    value = buffer.getvalue()
    return RawDataElement(BaseTag(0x00120064), "SQ", len(value), value, 0, False, True)


def _codes_in(ds: Dataset) -> frozenset[str]:
    raw: DataElement | RawDataElement | None = ds.get_item(BaseTag(0x00120064))
    if isinstance(raw, RawDataElement) and isinstance(raw.value, bytes) and len(raw.value) < 1 << 12:
        return _read_codes(raw.value, raw.is_implicit_VR, raw.is_little_endian)
    return frozenset(_value(item) for item in items_of(ds, 0x00120064))


@lru_cache(256)
def _read_codes(value: bytes, implicit: bool, little: bool) -> frozenset[str]:
    """What (0012,0064) states; the same bytes state the same in every object."""
    tag = BaseTag(0x00120064)
    ds = Dataset({tag: RawDataElement(tag, "SQ", len(value), value, 0, implicit, little)})
    return frozenset(_value(item) for item in items_of(ds, 0x00120064))


def _code(value: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning
    return item


def _value(item: Dataset) -> str:
    return text_of(item, 0x00080100) if text_of(item, 0x00080102) == "DCM" else ""


def _methods(methods: Sequence[str]) -> DataElement | RawDataElement:
    text = "\\".join(methods)
    if text.isascii() and all(len(method) < 64 and "\\" not in method for method in methods):
        return ascii_element(0x00120063, "LO", text)
    return DataElement(0x00120063, "LO", methods)


def _values(ds: Dataset) -> list[str]:
    value = ds.get("ImageType")
    return [str(v) for v in value] if isinstance(value, MultiValue | list) else [str(value)] if value else []
