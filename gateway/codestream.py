"""Reads and cleans coded images at marker level: JPEG, JPEG-LS, JPEG 2000. Coded data is never touched.

Cameras and workstations leave EXIF (place, serial number, a thumbnail of the face), comments and second
pictures around the coded image. What remains here is what a decoder needs: frame and scan headers, the tables
they name, coded data, the JFIF header without its thumbnail and the Adobe colour marker. Every other segment goes,
known or not, and so do tables that no scan uses. What follows the end of the image is cut.

Markers: ISO/IEC 10918-1 B.1.1.3 (JPEG), 14495-1 C.1.1 (JPEG-LS), 15444-1 A.2 (JPEG 2000, HTJ2K included),
15444-1 Annex I (the boxes of JP2).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

_JPEG_SCAN_END = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_JPEG_LS_SCAN_END = re.compile(rb"\xff[\x80-\xcf\xd8-\xfe]")
_SOI, _EOI, _SOS, _COM, _DNL = 0xD8, 0xD9, 0xDA, 0xFE, 0xDC
_DHT, _DQT, _DRI, _LSE = 0xC4, 0xDB, 0xDD, 0xF8
_UNKNOWN = frozenset({0xCC, 0xDE, 0xDF})
_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}
_JPEG_LS_SOF = 0xF7
_HEADERS = _SOF | {_SOS}
_BARE = _HEADERS | {_SOI, _EOI}
"""What passes as it is, once :func:`_tables` found its length to be right."""
_LENGTHS = {_DNL: 4, _DRI: 4, _LSE: 13}
"""What these segments hold: a number of lines or of units, or the coding parameters of JPEG-LS (C.2.4.1.1)."""
_J2K_SOC, _J2K_SOT, _J2K_SOD, _J2K_EOC, _J2K_SIZ, _J2K_COM = 0x4F, 0x90, 0x93, 0xD9, 0x51, 0x64
_JP2_SIGNATURE = b"\x00\x00\x00\x0cjP  \r\n\x87\n"
_JP2_KEPT = frozenset({b"jP  ", b"ftyp", b"jp2h", b"jp2c"})
_JP2_HEADER_KEPT = frozenset({b"ihdr", b"bpcc", b"colr", b"pclr", b"cmap", b"cdef"})


class BrokenImageError(ValueError):
    """The bytes are no complete coded image of a kind known here."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What a coded image says of itself: rows and columns, samples per pixel, bits per sample."""

    rows: int
    columns: int
    samples: int
    precision: int


@dataclass(frozen=True, slots=True)
class _Segment:
    """One marker segment: the second marker byte, where it begins, and where it ends (scan data included)."""

    marker: int
    start: int
    end: int


def clean(data: bytes) -> bytes:
    """The same image with the same coded bytes, and nothing beside it.

    Raises
    ------
    BrokenImageError
        It cannot be taken apart to its end.
    """
    if data[:2] == b"\xff\xd8":
        return b"".join(_jpeg_parts(data))
    if data[:2] == b"\xff\x4f":
        return b"".join(_j2k_parts(data))
    if data[:12] == _JP2_SIGNATURE:
        return b"".join(_jp2_parts(data))
    raise BrokenImageError("no JPEG, JPEG-LS or JPEG 2000 image")


def shape(data: bytes) -> Shape:
    """Size and depth of the coded image, from its frame header.

    Raises
    ------
    BrokenImageError
        There is no such header.
    """
    if data[:12] == _JP2_SIGNATURE:
        data = next((data[s:e] for kind, _, s, e in _boxes(data, 0, len(data)) if kind == b"jp2c"), b"")
    if data[:2] == b"\xff\x4f":
        segment = next((s for s in _j2k_segments(data) if s.marker == _J2K_SIZ), None)
        body = b"" if segment is None else data[segment.start + 4 : segment.end]
        if len(body) < 37:
            raise BrokenImageError("no SIZ marker segment")
        x1, y1, x0, y0 = (int.from_bytes(body[i : i + 4], "big") for i in (2, 6, 10, 14))
        return Shape(y1 - y0, x1 - x0, int.from_bytes(body[34:36], "big"), (body[36] & 0x7F) + 1)
    if data[:2] != b"\xff\xd8":
        raise BrokenImageError("no JPEG, JPEG-LS or JPEG 2000 image")
    for segment in _jpeg_segments(data):
        if segment.marker in _SOF:
            body = data[segment.start + 4 : segment.end]
            if len(body) < 6:
                break
            rows, columns = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
            return Shape(rows, columns, body[5], body[0])
    raise BrokenImageError("no frame header")


def foreign(data: bytes) -> bool:
    """Whether the coded image holds anything :func:`clean` would take out, or cannot be taken apart."""
    try:
        if data[:2] == b"\xff\xd8":
            return _beside_jpeg(data)
        cleaned = clean(data)
    except BrokenImageError:
        return True
    return not data.startswith(cleaned) or bool(data[len(cleaned) :].strip(b"\0"))


def _beside_jpeg(data: bytes) -> bool:
    at, segments = 0, list(_jpeg_segments(data))
    used = _tables(segments, data)
    for segment in segments:
        if segment.start != at or (
            segment.marker not in _BARE and _kept(segment, data, used) != data[at : segment.end]
        ):
            return True
        at = segment.end
    return bool(data[at:].strip(b"\0"))


def _jpeg_segments(data: bytes) -> Iterator[_Segment]:
    scan_end, at = _JPEG_SCAN_END, 2
    yield _Segment(_SOI, 0, 2)
    while at + 2 <= len(data):
        if data[at] != 0xFF:
            raise BrokenImageError("a marker was expected")
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte (B.1.1.2)
            at += 1
            continue
        if marker == _EOI:
            yield _Segment(marker, at, at + 2)
            return
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if end < at + 4 or end > len(data):
            raise BrokenImageError("a marker segment is cut off")
        if marker == _JPEG_LS_SOF:
            scan_end = _JPEG_LS_SCAN_END
        if marker == _SOS:
            found = scan_end.search(data, end)
            if found is None:
                raise BrokenImageError("the image has no end")
            end = found.start()
        yield _Segment(marker, at, end)
        at = end
    raise BrokenImageError("the image has no end")


def _jpeg_parts(data: bytes) -> Iterator[bytes]:
    segments = list(_jpeg_segments(data))
    used = _tables(segments, data)
    return (_kept(segment, data, used) for segment in segments)


def _tables(segments: list[_Segment], data: bytes) -> frozenset[tuple[int, int]]:
    """The tables that frame and scan headers name: the marker of each, and its class and number as it states them.

    Raises
    ------
    BrokenImageError
        A header does not have the length that its number of components gives it (B.2.2, B.2.3).
    """
    used = set()
    for marker, start in ((s.marker, s.start) for s in segments if s.marker in _HEADERS):
        head = data[start + 4 : start + 2 + int.from_bytes(data[start + 2 : start + 4], "big")]
        if marker == _SOS:
            if not head or len(head) != 4 + 2 * head[0]:
                raise BrokenImageError("a scan header of another length than its components")
            for coded in head[2 : 2 + 2 * head[0] : 2]:
                used |= {(_DHT, coded >> 4), (_DHT, 0x10 | coded & 0xF)}
        else:
            if len(head) < 6 or len(head) != 6 + 3 * head[5]:
                raise BrokenImageError("a frame header of another length than its components")
            used |= {(_DQT, number) for number in head[8::3]}
    return frozenset(used)


def _kept(segment: _Segment, data: bytes, used: frozenset[tuple[int, int]]) -> bytes:
    """What stays of a segment of JPEG or JPEG-LS."""
    part, marker = data[segment.start : segment.end], segment.marker
    if marker in _BARE or len(part) == _LENGTHS.get(marker, -2) + 2:
        return part
    if marker in {_DHT, _DQT}:
        kept = b"".join(table for number, table in _each_table(marker, part) if (marker, number) in used)
        return part[:2] + (len(kept) + 2).to_bytes(2, "big") + kept if kept else b""
    if marker == 0xE0 and part[4:9] == b"JFIF\0" and len(part) >= 18:
        # Version, density and no thumbnail: length 16, 0 × 0 pixels (JFIF 1.02).
        return b"\xff\xe0\x00\x10" + part[4:16] + b"\x00\x00"
    if marker == 0xEE and part[4:9] == b"Adobe" and len(part) >= 16:
        return b"\xff\xee\x00\x0e" + part[4:16]
    if marker in _UNKNOWN or marker == _LSE or (marker == 0xE8 and part[4:8] == b"mrfx"):
        # Arithmetic coding, pictures in several sizes, tables of colours, a colour transform on which decoders differ.
        raise BrokenImageError("the image has parts that are not known here")
    return b""


def _each_table(marker: int, part: bytes) -> Iterator[tuple[int, bytes]]:
    """Class and number of each table in a segment, and its bytes (B.2.4.1, B.2.4.2)."""
    at = 4
    while at < len(part):
        head, end = part[at], at + 65 + 64 * (part[at] >> 4 & 1)
        if marker == _DHT:
            end = at + 17 + sum(part[at + 1 : at + 17])
        if end > len(part):
            raise BrokenImageError("a table is cut off")
        yield (head if marker == _DHT else head & 0xF), part[at:end]
        at = end


def _j2k_segments(data: bytes) -> Iterator[_Segment]:
    """Main header, then each tile-part as one segment (SOT), then EOC."""
    yield _Segment(_J2K_SOC, 0, 2)
    at = 2
    while at + 2 <= len(data):
        marker = data[at + 1]
        if data[at] != 0xFF:
            raise BrokenImageError("a marker was expected")
        if marker == _J2K_EOC:
            yield _Segment(marker, at, at + 2)
            return
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == _J2K_SOT:
            length = int.from_bytes(data[at + 6 : at + 10], "big")
            # Zero: the tile-part reaches to the end of the codestream (A.4.2).
            end = at + length if length else data.rfind(b"\xff\xd9", at)
        if end < at + 4 or end > len(data):
            raise BrokenImageError("a marker segment is cut off")
        yield _Segment(marker, at, end)
        at = end
    raise BrokenImageError("the image has no end")


def _j2k_parts(data: bytes) -> Iterator[bytes]:
    for segment in _j2k_segments(data):
        if segment.marker == _J2K_SOT:
            yield _without_tile_comments(data[segment.start : segment.end])
        elif segment.marker != _J2K_COM:
            yield data[segment.start : segment.end]


def _without_tile_comments(part: bytes) -> bytes:
    """A tile-part with its comments blanked in place, because its length is written in other places too."""
    blanked, at = bytearray(part), 12
    while at + 4 <= len(part) and part[at] == 0xFF and part[at + 1] != _J2K_SOD:
        end = at + 2 + int.from_bytes(part[at + 2 : at + 4], "big")
        if end < at + 4 or end > len(part):
            raise BrokenImageError("a marker segment is cut off")
        if part[at + 1] == _J2K_COM and end > at + 6:
            blanked[at + 6 : end] = bytes(end - at - 6)
        at = end
    return bytes(blanked)


def _boxes(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int, int]]:
    """Type, start of the box, start and end of its contents."""
    at = start
    while at + 8 <= end:
        length, kind, header = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8], 8
        if length == 1:
            length, header = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        stop = at + length if length else end
        if stop < at + header or stop > end:
            raise BrokenImageError("a box is cut off")
        yield kind, at, at + header, stop
        at = stop


def _jp2_parts(data: bytes) -> Iterator[bytes]:
    for kind, start, body, end in _boxes(data, 0, len(data)):
        if kind not in _JP2_KEPT:
            continue
        if kind in {b"jP  ", b"ftyp"}:
            yield data[start:end]
            continue
        if kind == b"jp2c":
            contents = b"".join(_j2k_parts(data[body:end]))
        else:
            inner = ((k, data[s:e]) for k, s, _, e in _boxes(data, body, end))
            contents = b"".join(box for k, box in inner if k in _JP2_HEADER_KEPT)
        yield (len(contents) + 8).to_bytes(4, "big") + kind + contents
