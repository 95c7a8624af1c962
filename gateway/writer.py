"""Writes a data set whose elements were mostly left as they were read, several times as fast as pydicom does.

Only what needs no thought is written here: little endian, not deflated, every VR certain. For everything else
:func:`encoded` gives ``None`` and pydicom's own writer is asked. Sequences and items have explicit lengths.
"""

from collections.abc import Sequence
from struct import Struct
from typing import cast

from pydicom import DataElement, Dataset
from pydicom.charset import convert_encodings
from pydicom.dataelem import RawDataElement
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import correct_ambiguous_vr_element, write_data_element
from pydicom.multival import MultiValue
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32

from gateway.reader import leaves_vrs_out

UNDEFINED = 0xFFFFFFFF
_SYNTAX = 0x00020010
_IMPLICIT = Struct("<HHL")
_SHORT = Struct("<HH2sH")
_LONG = Struct("<HH2sHL")
_ITEM = Struct("<HHL")
_DELIMITER = _ITEM.pack(0xFFFE, 0xE0DD, 0)
_META = frozenset({0x00020001, 0x00020002, 0x00020003, 0x00020010, 0x00020012, 0x00020013})
_PLAIN = frozenset({"AE", "AS", "CS", "DA", "DT", "LO", "LT", "SH", "ST", "TM", "UC", "UI", "UT"})
_LONG_VRS = frozenset(str(vr) for vr in EXPLICIT_VR_LENGTH_32)


class _NeedsThought(Exception):
    """Something that is not written here."""


def encoded(ds: Dataset) -> list[bytes] | None:
    """The complete Part 10 file of ``ds`` in pieces, its preamble all zeros; ``None`` if pydicom has to write it.

    Whatever pydicom raises while it encodes a single value is raised.
    """
    meta = ds.file_meta
    if not meta.keys() >= _META or any(tag >> 16 in {0, 2} for tag in ds.keys()):  # noqa: SIM118  no element is parsed
        return None
    syntax: DataElement | RawDataElement = meta.get_item(_SYNTAX)
    value = syntax.value if isinstance(syntax, RawDataElement) else str(syntax.value).encode()
    implicit = leaves_vrs_out(value or b"")
    if implicit is None:
        return None
    try:
        group = b"".join(_elements(meta, [], implicit=False, skip_length=True))
        body = _elements(ds, _encodings(ds), implicit=implicit)
    except _NeedsThought:
        return None
    length = _SHORT.pack(2, 0, b"UL", 4) + len(group).to_bytes(4, "little")
    return [bytes(128), b"DICM", length, group, *body]


def _encodings(ds: Dataset) -> list[str]:
    stated = ds.get("SpecificCharacterSet") or "ISO_IR 6"
    return convert_encodings(list(stated) if isinstance(stated, MultiValue | list) else stated)


def _elements(
    ds: Dataset, encodings: Sequence[str], *, implicit: bool, skip_length: bool = False
) -> list[bytes]:
    parts: list[bytes] = []
    raw: DataElement | RawDataElement
    for tag, raw in sorted(ds.items(), key=lambda item: int(item[0])):
        if skip_length and tag.element == 0:
            continue
        if isinstance(raw, RawDataElement) and _as_read(raw, implicit):
            _add(parts, int(tag), raw.VR, raw.value or b"", implicit, raw.length == UNDEFINED)
            continue
        element = ds[tag]
        vr = str(element.VR)
        if " " in vr:
            element = cast(DataElement, correct_ambiguous_vr_element(element, ds, True))
            vr = str(element.VR)
        if vr == "SQ":
            items = (b"".join(_elements(item, encodings, implicit=implicit)) for item in element.value or [])
            value = b"".join(part for item in items for part in (_ITEM.pack(0xFFFE, 0xE000, len(item)), item))
            _add(parts, int(tag), vr, value, implicit, False)
        elif (plain := _plain(element, vr)) is not None:
            _add(parts, int(tag), vr, plain, implicit, False)
        else:
            buffer = DicomBytesIO()
            buffer.is_implicit_VR, buffer.is_little_endian = implicit, True
            write_data_element(buffer, element, list(encodings))
            parts.append(buffer.getvalue())
    return parts


def _as_read(raw: RawDataElement, implicit: bool) -> bool:
    return raw.is_little_endian and raw.is_implicit_VR == implicit and raw.value is not None


def _plain(element: DataElement, vr: str) -> bytes | None:
    """The value as bytes, where it is ASCII text."""
    value = element.value
    if vr not in _PLAIN:
        return None
    if isinstance(value, MultiValue | list | tuple):
        value = "\\".join(map(str, value))
    if value is None:
        return b""
    if not isinstance(value, str) or not value.isascii():
        return None
    coded = value.encode("ascii")
    return coded if len(coded) % 2 == 0 else coded + (b"\0" if vr == "UI" else b" ")


def _add(  # noqa: PLR0913, PLR0917  what an element is made of
    parts: list[bytes], tag: int, vr: str | None, value: bytes, implicit: bool, undefined: bool
) -> None:
    length = UNDEFINED if undefined else len(value)
    if implicit:
        parts.append(_IMPLICIT.pack(tag >> 16, tag & 0xFFFF, length))
    elif vr is None or len(vr) != 2:
        raise _NeedsThought
    elif vr in _LONG_VRS:
        parts.append(_LONG.pack(tag >> 16, tag & 0xFFFF, vr.encode("ascii"), 0, length))
    elif length > 0xFFFF:
        raise _NeedsThought
    else:
        parts.append(_SHORT.pack(tag >> 16, tag & 0xFFFF, vr.encode("ascii"), length))
    parts.append(value)
    if undefined:
        parts.append(_DELIMITER)
