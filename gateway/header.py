"""Reads a received object up to its pixels: strictly, in constant memory, and within limits.

Only the four identifiers are loaded; every other value is stepped over. The encoding is that of PS3.5 7.1,
with sequences of both kinds (7.5) and items of ``UN`` as Implicit VR Little Endian (6.2.2).
"""

import hashlib
import io
import os
import re
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pydicom.datadict import dictionary_VR
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32, VR

from gateway.errors import GatewayError

HEADER_BYTES = 64 << 20
ELEMENTS = 200_000
DEPTH = 32
CHUNK_BYTES = 1 << 20
FILE_META_BYTES = 1 << 16

SOP_CLASS, SOP_INSTANCE, STUDY, SERIES = 0x00080016, 0x00080018, 0x0020000D, 0x0020000E
WANTED = frozenset({SOP_CLASS, SOP_INSTANCE, STUDY, SERIES})
PIXELS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
UNDEFINED = 0xFFFFFFFF
KNOWN_VRS = frozenset(str(vr).encode() for vr in VR if len(str(vr)) == 2)
LONG_VRS = frozenset(str(vr).encode() for vr in EXPLICIT_VR_LENGTH_32)
UID_TEXT = re.compile(r"[0-9.]{1,64}")


class Unparsable(GatewayError):
    """What was received is not a data set, is cut off, or goes beyond a limit."""


@dataclass(frozen=True, slots=True)
class Header:
    """What is known of a received object before anything else happens to it.

    Attributes
    ----------
    sop_class, sop_instance, study, series
        UIDs in the data set.
    has_pixels
        Whether pixel data follows.
    sha256
        Digest of the data set's bytes as they came over the network, without the file meta around them.
    size_bytes
        Length of the file.
    """

    sop_class: str
    sop_instance: str
    study: str
    series: str
    has_pixels: bool
    sha256: str
    size_bytes: int


def read(file: Path, transfer_syntax: UID, max_bytes: int, *, sha256: str | None = None) -> Header:
    """The header of a Part 10 file whose file meta has a group length (PS3.10 7.1).

    Parameters
    ----------
    file
        Complete file.
    transfer_syntax
        As negotiated.
    max_bytes
        Largest data set accepted, inflated where it is deflated.
    sha256
        Digest of the data set, where it is known already.

    Raises
    ------
    Unparsable
        The data set cannot be read up to its pixels.
    OSError
        The disk cannot be read.
    """
    with file.open("rb") as stream:
        start = _data_set_start(stream)
        size = stream.seek(0, os.SEEK_END)
        if size - start > max_bytes:
            raise Unparsable("the object is larger than [listener] max_object_mb")
        if sha256 is None:
            stream.seek(start)
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        stream.seek(start)
        if transfer_syntax == DeflatedExplicitVRLittleEndian:
            body, end = _inflated(stream, max_bytes)
        else:
            body, end = stream, size
        walker = _Walker(body, end, transfer_syntax)
        walker.elements(None, 0, implicit=transfer_syntax.is_implicit_VR)
    found = {tag: _uid(walker.found.get(tag)) for tag in WANTED}
    return Header(
        found[SOP_CLASS], found[SOP_INSTANCE], found[STUDY], found[SERIES], walker.has_pixels, sha256, size
    )


def digest(file: Path) -> str:
    """SHA-256, hexadecimal, of a Part 10 file's data set; empty where it is not one.

    Raises
    ------
    OSError
        The disk cannot be read.
    """
    with file.open("rb") as stream:
        try:
            stream.seek(_data_set_start(stream))
        except Unparsable:
            return ""
        return hashlib.file_digest(stream, "sha256").hexdigest()


def transfer_syntax(file: Path) -> UID:
    """The transfer syntax a Part 10 file says it has, as far as the listener wrote it.

    Raises
    ------
    Unparsable
        It has no file meta information.
    OSError
        The disk cannot be read.
    """
    with file.open("rb") as stream:
        start = _data_set_start(stream)
        stream.seek(144)
        group = stream.read(min(start - 144, FILE_META_BYTES))
    place = group.find(b"\x02\x00\x10\x00UI")
    if place < 0:
        raise Unparsable("the file does not say its transfer syntax")
    length = int.from_bytes(group[place + 6 : place + 8], "little")
    return UID(_uid(group[place + 8 : place + 8 + length]))


def _data_set_start(stream: BinaryIO) -> int:
    """Where the data set begins: after preamble, prefix and the group its length element spans."""
    start = stream.read(144)
    if len(start) < 144 or start[128:140] != b"DICM\x02\x00\x00\x00UL\x04\x00":
        raise Unparsable("the file has no file meta information")
    return 144 + int.from_bytes(start[140:144], "little")


def _inflated(stream: BinaryIO, max_bytes: int) -> tuple[BinaryIO, int]:
    """The first `HEADER_BYTES` of a deflated data set, and the length of all of it.

    Raises
    ------
    Unparsable
        It is not deflated, is cut off, or grows beyond ``max_bytes``.
    """
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    kept, total = io.BytesIO(), 0
    try:
        while not inflate.eof and (chunk := stream.read(CHUNK_BYTES)):
            while chunk and not inflate.eof:
                piece = inflate.decompress(chunk, CHUNK_BYTES)
                chunk = inflate.unconsumed_tail
                total += len(piece)
                if total > max_bytes:
                    raise Unparsable("the object inflates beyond [listener] max_object_mb")
                if kept.tell() < HEADER_BYTES:
                    kept.write(piece)
    except zlib.error as error:
        raise Unparsable("the object is not deflated") from error
    if not inflate.eof:
        raise Unparsable("the deflated object is cut off")
    kept.seek(0)
    return kept, total


def _uid(value: bytes | None) -> str:
    text = (value or b"").rstrip(b"\0 ").decode("ascii", "replace")
    if not UID_TEXT.fullmatch(text):
        raise Unparsable("an identifier is missing or is not a UID")
    return text


class _Walker:
    """Steps through the elements of one data set."""

    def __init__(self, stream: BinaryIO, end: int, transfer_syntax: UID) -> None:
        order = "<" if transfer_syntax.is_little_endian else ">"
        self._tag = struct.Struct(f"{order}HH")
        self._short = struct.Struct(f"{order}H")
        self._long = struct.Struct(f"{order}L")
        self._stream = stream
        self._position = stream.tell()
        self._limit = self._position + HEADER_BYTES
        self._end = end
        self._count = 0
        self.found: dict[int, bytes] = {}
        self.has_pixels = False

    def elements(self, end: int | None, depth: int, *, implicit: bool) -> None:
        """Elements up to ``end``, to the item's delimiter, or at depth 0 to the pixels or the file's end."""
        while self._position != (self._end if depth == 0 else end):
            if end is not None and self._position > end:
                raise Unparsable("a sequence is longer than its item")
            tag = self._read_tag()
            if tag == ITEM_END and depth and end is None:
                self._read(4)
                return
            vr, length = self._vr_and_length(tag, implicit=implicit)
            if depth == 0 and tag in PIXELS:
                if length != UNDEFINED and self._position + length > self._end:
                    raise Unparsable("the pixels are cut off")
                self.has_pixels = True
                return
            if vr == b"SQ" or length == UNDEFINED:
                if vr not in (b"SQ", b"UN", b""):
                    raise Unparsable("a value has no length")
                stop = None if length == UNDEFINED else self._position + length
                self._items(stop, depth + 1, implicit=implicit or vr == b"UN")
            elif depth == 0 and tag in WANTED and length <= 66:
                self.found[tag] = self._read(length)
            else:
                self._skip(length, end)

    def _items(self, end: int | None, depth: int, *, implicit: bool) -> None:
        if depth > DEPTH:
            raise Unparsable("sequences are nested too deeply")
        while self._position != end:
            tag = self._read_tag()
            length = self._number(self._long)
            if tag == SEQUENCE_END and end is None:
                return
            if tag != ITEM or (end is not None and self._position > end):
                raise Unparsable("a sequence holds something that is not an item")
            stop = None if length == UNDEFINED else self._position + length
            self.elements(stop, depth, implicit=implicit)

    def _vr_and_length(self, tag: int, *, implicit: bool) -> tuple[bytes, int]:
        if implicit:
            return _implicit_vr(tag), self._number(self._long)
        vr = self._read(2)
        if vr not in KNOWN_VRS:
            raise Unparsable("a value representation is unknown")
        if vr in LONG_VRS:
            self._read(2)
            return vr, self._number(self._long)
        return vr, self._number(self._short)

    def _read_tag(self) -> int:
        self._count += 1
        if self._count > ELEMENTS:
            raise Unparsable("there are too many elements")
        group, element = self._tag.unpack(self._read(4))
        return int(group) << 16 | int(element)

    def _number(self, kind: struct.Struct) -> int:
        return int(kind.unpack(self._read(kind.size))[0])

    def _read(self, length: int) -> bytes:
        self._advance(length)
        value = self._stream.read(length)
        if len(value) != length:
            raise Unparsable("the object is cut off")
        return value

    def _skip(self, length: int, end: int | None) -> None:
        self._advance(length)
        if end is not None and self._position > end:
            raise Unparsable("a value is longer than its item")
        self._stream.seek(length, os.SEEK_CUR)

    def _advance(self, length: int) -> None:
        self._position += length
        if self._position > self._end:
            raise Unparsable("the object is cut off")
        if self._position > self._limit:
            raise Unparsable("the header is too long")


def _implicit_vr(tag: int) -> bytes:
    """``SQ``, or nothing where the dictionary does not make it a sequence (PS3.5 A.1)."""
    try:
        return b"SQ" if dictionary_VR(tag) == "SQ" else b""
    except KeyError:
        return b""
