"""Reads plain Part 10 files several times as fast as pydicom does, and tells whether a file is nothing but elements.

Only what needs no thought is read here: a preamble and file meta information with their lengths, little endian, not
deflated, elements in ascending order that fill their place exactly. For everything else the answer is ``None``,
and pydicom's own reader is asked. What is read here is what pydicom would have read.

The encoding is that of PS3.5 7.1 and 7.5, of encapsulated pixels A.4, of the file meta information PS3.10 7.1.
"""

import re
from collections.abc import Callable, Collection, MutableSequence
from functools import lru_cache
from io import BytesIO
from struct import Struct
from typing import Any
from warnings import catch_warnings, simplefilter

from pydicom import DataElement, Dataset
from pydicom.charset import convert_encodings, default_encoding
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataelem import RawDataElement, convert_raw_data_element, empty_value_for_VR
from pydicom.dataset import FileMetaDataset
from pydicom.filereader import data_element_generator
from pydicom.tag import BaseTag
from pydicom.uid import UID
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32, VR

UNDEFINED = 0xFFFFFFFF
MAX_DEPTH = 64
Encodings = str | MutableSequence[str]
Rest = Callable[[int, int], bytes]
"""Gives so many bytes of a file from a place on."""
_Span = tuple[int, str | None, int, int, bool, int, int]
"""Where an element stands: its tag; its VR, ``None`` where the encoding leaves it out; where its value begins and ends,
for pixels without a stated length before their delimiter; whether its length is not stated; where the whole element
begins and ends. A plain tuple, because there are hundreds of them in an object."""

_HEADER = Struct("<HHL").unpack_from
_LENGTH = Struct("<L").unpack_from
_VR = re.compile(rb"[A-Z][A-Z]")
_CHARACTER_SET, _SYNTAX, _PIXELS, _PIXEL_DATA = 0x00080005, 0x00020010, 0x7FE00008, 0x7FE00010
_DELIMITERS, _ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFE, 0xE000, 0xE00D, 0xE0DD
_PREAMBLE, _META = 128, 144
"""Where the file meta information begins: behind preamble, prefix and its own length."""
_DATA_SET = 0x00030000
_LONG = 1 << 16
_PIXEL_VRS = frozenset({"OB", "OW"})
_VRS = {str(vr).encode("ascii"): (str(vr), vr in EXPLICIT_VR_LENGTH_32) for vr in VR if len(str(vr)) == 2}
_BLANK = vars(Dataset())
_EMPTY = {vr: empty_value_for_VR(vr, raw=True) for vr, _ in _VRS.values()}

tag_of = lru_cache(8192)(BaseTag)
"""The tag of a number, each time the same object: where a data set holds that, it need not compare."""


class _Unusual(Exception):
    """Something that is not read here."""


def read(
    data: bytes,
    size: int | None = None,
    rest: Rest | None = None,
    only: Collection[int] = (),
    whole: bool = False,
) -> Dataset | None:
    """The data set and file meta of a Part 10 file; ``None`` where pydicom has to read it.

    Parameters
    ----------
    data
        The file, or its beginning: then only the value of the last element may reach beyond.
    size
        Length of the file, where that is more than ``data``.
    rest
        Reads that value.
    only
        Tags before the pixels, where nothing else is wanted.
    whole
        Only if every byte of the file is part of an element, sequences taken apart, and its preamble all zeros. Long
        binary values are then views of ``data`` and no copies: this is for those who only look at them.
    """
    try:
        if whole and data[:_PREAMBLE].strip(b"\0"):
            return None
        meta, at, implicit = _file_meta(data)
        size = len(data) if size is None else size
        before = _PIXELS if only else None
        spans, _ = _elements(data, at, size, implicit=implicit, deep=whole, before=before)
        if not spans or spans[0][0] < _DATA_SET:
            return None
        if only:
            spans = [span for span in spans if span[0] in only or span[0] == _CHARACTER_SET]
        ds = _data_set(data, spans, implicit, rest=rest, views=whole)
        ds.file_meta = FileMetaDataset(_read(data, meta, False, default_encoding)[0])
        ds.file_meta.set_original_encoding(False, True, default_encoding)
    except Exception:  # noqa: BLE001  whatever is wrong with it, pydicom says so
        return None
    return ds


def items(raw: RawDataElement, parent: Dataset) -> list[Dataset] | None:
    """The items of a sequence that was not taken apart yet; ``None`` where pydicom has to do that.

    Parameters
    ----------
    raw
        The sequence.
    parent
        The data set it stands in, whose character sets hold for its items too.
    """
    encodings = parent.original_character_set or parent._character_set
    encodings = [encodings] if isinstance(encodings, str) else encodings
    data, found, at = raw.value or b"", [], 0
    if not raw.is_little_endian or not isinstance(data, bytes):
        return None
    try:
        while at < len(data):
            group, number, length = _HEADER(data, at)
            stop = at + 8 + length
            if group != _DELIMITERS or number != _ITEM or stop > len(data):
                return None
            spans, _ = _elements(data, at + 8, stop, implicit=raw.is_implicit_VR)
            found.append(_data_set(data, spans, raw.is_implicit_VR, encodings))
            at = stop
    except Exception:  # noqa: BLE001  whatever is wrong with it, pydicom says so
        return None
    return found


def _file_meta(data: bytes) -> tuple[list[_Span], int, bool]:
    """The elements of group 0002, where the data set begins, and whether its encoding leaves VRs out."""
    if len(data) < _META or data[128:140] != b"DICM\x02\0\0\0UL\x04\0":
        raise _Unusual
    end = _META + int(_LENGTH(data, 140)[0])
    if end > len(data):
        raise _Unusual
    spans, _ = _elements(data, _META, end, implicit=False)
    syntax = next((data[start:stop] for tag, _, start, stop, *_ in spans if tag == _SYNTAX), b"")
    implicit = leaves_vrs_out(syntax)
    if implicit is None or any(span[0] >> 16 != 2 for span in spans):
        raise _Unusual
    if implicit and _VR.match(data, end + 4):  # to pydicom that looks like an explicit one
        raise _Unusual
    return [(0x00020000, "UL", 140, _META, False, 132, _META), *spans], end, implicit


@lru_cache(64)
def leaves_vrs_out(syntax: bytes) -> bool | None:
    """Whether a transfer syntax has implicit VRs; ``None`` for one that is not read here."""
    uid = UID(syntax.decode("ascii", "replace").rstrip(" \0"))
    if not uid.is_valid or uid.is_private or not uid.is_transfer_syntax or uid.is_deflated:
        return None
    return uid.is_implicit_VR if uid.is_little_endian else None


def _elements(  # noqa: PLR0912, PLR0913  one pass over the bytes answers several questions
    data: bytes,
    at: int,
    end: int | None,
    *,
    implicit: bool,
    deep: bool = False,
    depth: int = 0,
    before: int | None = None,
) -> tuple[list[_Span], int]:
    """The elements up to ``end``, or up to the item's delimiter where that is ``None``, and where they end.

    With ``deep`` all sequences are taken apart, to see that they can be; else those alone whose end is not known.
    With ``before`` elements of higher tags are left out.
    """
    spans: list[_Span] = []
    last, limit = -1, len(data)
    while at != end:
        if at + 8 > limit:
            raise _Unusual
        begin, vr, long, undefined = at, None, True, False
        group, number, length = _HEADER(data, at)
        at += 8
        if group == _DELIMITERS:
            if number == _ITEM_END and end is None and not length:
                return spans, at
            raise _Unusual
        if not implicit:
            known = _VRS.get(data[begin + 4 : begin + 6])
            if known is None:
                raise _Unusual
            vr, long = known
            length >>= 16
            if long:
                if length or at + 4 > limit:
                    raise _Unusual
                length = _LENGTH(data, at)[0]
                at += 4
        tag = group << 16 | number
        if tag <= last:
            raise _Unusual
        if before is not None and tag >= before:
            return spans, begin
        last, start = tag, at
        if long and length == UNDEFINED:
            undefined = True
            if tag == _PIXEL_DATA and vr in _PIXEL_VRS:
                at = _fragments_end(data, at)
            elif vr == "SQ" or (implicit and _is_sequence(tag)):
                at = _items_end(data, at, None, implicit, deep, depth + 1)
            else:
                raise _Unusual
            stop = at - 8
        else:
            at = stop = start + length
            if deep and length and (vr == "SQ" or (implicit and _is_sequence(tag))):
                at = _items_end(data, start, stop, implicit, deep, depth + 1)
        if end is not None and at > end:
            raise _Unusual
        spans.append((tag, vr, start, stop, undefined, begin, at))
    return spans, at


def _items_end(data: bytes, at: int, end: int | None, implicit: bool, deep: bool, depth: int) -> int:  # noqa: PLR0913, PLR0917  as for `_elements`
    """Where a sequence ends whose items begin here, its delimiter included."""
    if depth > MAX_DEPTH:
        raise _Unusual
    while at != end:
        if at + 8 > len(data):
            raise _Unusual
        group, number, length = _HEADER(data, at)
        at += 8
        if group == _DELIMITERS and number == _SEQUENCE_END and end is None and not length:
            return at
        stop = None if length == UNDEFINED else at + length
        if group != _DELIMITERS or number != _ITEM or (stop is not None and end is not None and stop > end):
            raise _Unusual
        _, at = _elements(data, at, stop, implicit=implicit, deep=deep, depth=depth)
        if end is not None and at > end:
            raise _Unusual
    return at


def _fragments_end(data: bytes, at: int) -> int:
    """Where encapsulated pixels end whose first item begins here, their delimiter included."""
    while at + 8 <= len(data):
        group, number, length = _HEADER(data, at)
        at += 8
        if group == _DELIMITERS and number == _SEQUENCE_END and not length:
            return at
        if group != _DELIMITERS or number != _ITEM or length == UNDEFINED:
            break
        at += length
    raise _Unusual


@lru_cache(8192)
def _is_sequence(tag: int) -> bool:
    return dictionary_has_tag(tag) and dictionary_VR(tag) == "SQ"


def _data_set(  # noqa: PLR0913  what a data set is made of
    data: bytes,
    spans: list[_Span],
    implicit: bool,
    encodings: Encodings = default_encoding,
    *,
    rest: Rest | None = None,
    views: bool = False,
) -> Dataset:
    elements, stated = _read(data, spans, implicit, encodings, rest, views)
    ds = data_set(elements, encodings)
    ds.set_original_encoding(implicit, True, stated)
    return ds


def data_set(
    elements: dict[BaseTag, DataElement | RawDataElement], encodings: Encodings = default_encoding
) -> Dataset:
    """As ``Dataset(elements, parent_encoding=encodings)``, which sets one attribute after the other by a method that
    first looks each name up among the standard's, and takes four times as long.
    """
    ds = Dataset.__new__(Dataset)
    blank = {name: value.copy() if isinstance(value, dict) else value for name, value in _BLANK.items()}
    vars(ds).update(blank, _dict=elements, _parent_encoding=encodings)
    return ds


def _read(  # noqa: PLR0913, PLR0917  as above
    data: bytes,
    spans: list[_Span],
    implicit: bool,
    encodings: Encodings,
    rest: Rest | None = None,
    views: bool = False,
) -> tuple[dict[BaseTag, DataElement | RawDataElement], Encodings]:
    """The elements, and the character sets in force behind the last."""
    elements: dict[BaseTag, DataElement | RawDataElement] = {}
    for tag, vr, start, stop, undefined, begin, end in spans:
        key = tag_of(tag)
        value: Any
        if undefined and tag != _PIXEL_DATA:
            elements[key] = _by_pydicom(data[begin:end], implicit, encodings)
            continue
        if start == stop and not undefined:
            value = _EMPTY[vr] if vr else None
        elif stop > len(data):
            value = _beyond(start, stop, rest)
        elif views and stop - start >= _LONG and vr in _PIXEL_VRS and not undefined:
            value = memoryview(data)[start:stop]
        else:
            value = data[start:stop]
        length = UNDEFINED if undefined else stop - start
        elements[key] = RawDataElement(key, vr, length, value, start, implicit, True)
        if tag == _CHARACTER_SET:
            encodings = list(_encodings(value or b"", implicit))
    return elements, encodings


def _beyond(start: int, stop: int, rest: Rest | None) -> bytes:
    value = b"" if rest is None else rest(start, stop - start)
    if len(value) != stop - start:
        raise _Unusual
    return value


def _by_pydicom(element: bytes, implicit: bool, encodings: Encodings) -> DataElement | RawDataElement:
    with catch_warnings():
        simplefilter("ignore")  # they quote what they read
        return next(data_element_generator(BytesIO(element), implicit, True, encoding=encodings))


@lru_cache(256)
def _encodings(stated: bytes, implicit: bool) -> tuple[str, ...]:
    """Python's names for the values of Specific Character Set."""
    raw = RawDataElement(
        BaseTag(_CHARACTER_SET), None if implicit else "CS", len(stated), stated, 0, implicit, True
    )
    with catch_warnings():
        simplefilter("ignore")  # they quote what they read
        return tuple(convert_encodings(convert_raw_data_element(raw).value))
