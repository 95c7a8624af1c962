"""Cleaning coded images: what lies beside the image goes, the coded data stays, the picture does not change."""

from contextlib import suppress
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from photographs import photograph, skin
from PIL import Image
from pydicom.encaps import generate_frames
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless

from gateway.codestream import BrokenImageError, Shape, clean, foreign, shape

SECRET = b"Zweifelsfrei, Adelheid, 57.7 N 11.9 E"


def jpeg(**options: object) -> bytes:
    stream = BytesIO()
    Image.fromarray(skin(48, 64)).save(stream, "JPEG", quality=90, **options)
    return stream.getvalue()


def coded(syntax: str) -> bytes:
    ds = photograph(skin(48, 64), syntax=syntax)
    return next(generate_frames(ds.PixelData, number_of_frames=1))


def decoded(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(data)).convert("RGB"))


def segment(marker: int, body: bytes) -> bytes:
    return b"\xff" + bytes([marker]) + (len(body) + 2).to_bytes(2, "big") + body


def with_segments(data: bytes, *segments: bytes) -> bytes:
    return data[:2] + b"".join(segments) + data[2:]


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"subsampling": 2}, {"restart_marker_blocks": 2}]
)
@pytest.mark.parametrize("marker", [0x02, 0xBF, 0xDC, 0xE1, 0xE2, 0xED, 0xEF, 0xF0, 0xF9, 0xFD, 0xFE])
def test_segments_go_and_the_picture_stays(options: dict[str, object], marker: int) -> None:
    plain = jpeg(**options)
    data = with_segments(plain, segment(marker, SECRET), segment(marker, b"\xff\xd9" + SECRET))
    assert foreign(data)
    assert SECRET not in clean(data)
    assert not foreign(clean(data))
    assert np.array_equal(decoded(clean(data)), decoded(plain))
    assert clean(data) == clean(plain)


def table(marker: int, number: int, values: bytes) -> bytes:
    if marker == 0xDB:
        return bytes([number]) + values.ljust(64, b"\1")
    return bytes([number, *[0] * 7, len(values), *[0] * 8]) + values


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
@pytest.mark.parametrize(("marker", "number"), [(0xDB, 3), (0xC4, 0x03), (0xC4, 0x13)])
def test_tables_that_no_scan_uses_go(marker: int, number: int, options: dict[str, object]) -> None:
    plain = jpeg(**options)
    data = with_segments(plain, segment(marker, table(marker, number, SECRET)))
    assert foreign(data)
    assert clean(data) == clean(plain)
    assert not foreign(clean(plain))
    at = plain.index(bytes([0xFF, marker]))
    body = plain[at + 4 : at + 2 + int.from_bytes(plain[at + 2 : at + 4], "big")]
    beside = segment(marker, table(marker, number, SECRET) + body)  # in one segment with one that is used
    data = plain[:at] + beside + plain[at + len(body) + 4 :]
    assert clean(data) == clean(plain)


@pytest.mark.parametrize("marker", [0xC0, 0xDA, 0xDB, 0xC4])
def test_a_header_or_table_that_is_longer_than_it_says_is_broken(marker: int) -> None:
    plain = jpeg()
    at = plain.index(bytes([0xFF, marker]))
    length = int.from_bytes(plain[at + 2 : at + 4], "big")
    data = plain[:at] + segment(marker, plain[at + 4 : at + 2 + length] + b"Doe") + plain[at + 2 + length :]
    assert foreign(data)
    with pytest.raises(BrokenImageError):
        clean(data)


@pytest.mark.parametrize("marker", [0xCC, 0xDE, 0xDF])
def test_arithmetic_and_hierarchical_coding_are_not_guessed_at(marker: int) -> None:
    data = with_segments(jpeg(), segment(marker, SECRET))
    assert foreign(data)
    with pytest.raises(BrokenImageError):
        clean(data)


def test_parameters_of_jpeg_ls_stay_and_tables_of_colours_are_not_guessed_at() -> None:
    plain = clean(coded(JPEGLSLossless))
    parameters = segment(0xF8, b"\x01\x00\xff\x00\x03\x00\x07\x00\x15\x00\x40")
    assert clean(with_segments(plain, parameters)) == with_segments(plain, parameters)
    with pytest.raises(BrokenImageError):
        clean(with_segments(plain, segment(0xF8, b"\x02\x01\x03" + SECRET)))


def test_a_second_picture_behind_the_end_is_cut() -> None:
    data = jpeg() + jpeg() + SECRET
    assert foreign(data)
    assert clean(data) == clean(jpeg())


def test_a_thumbnail_in_the_jfif_header_goes_and_the_header_stays() -> None:
    plain = jpeg()
    assert plain[6:10] == b"JFIF"
    header = segment(0xE0, b"JFIF\0\x01\x02\x01\x00\x48\x00\x48\x02\x02" + b"face pixels!")
    data = plain[:2] + header + plain[20:]
    assert b"face pixels!" not in clean(data)
    assert b"JFIF\0\x01\x02\x01\x00\x48\x00\x48\x00\x00" in clean(data)
    extension = with_segments(plain, segment(0xE0, b"JFXX\0\x10" + SECRET))
    assert SECRET not in clean(extension)


def test_the_adobe_colour_marker_stays_without_what_follows_it() -> None:
    data = with_segments(jpeg(), segment(0xEE, b"Adobe\0\x64\0\0\0\0\x01" + SECRET))
    assert b"Adobe\0\x64\0\0\0\0\x01" in clean(data)
    assert SECRET not in clean(data)


def test_padding_to_even_length_is_not_foreign() -> None:
    assert not foreign(clean(jpeg()) + b"\0")
    assert foreign(clean(jpeg()) + b"x")


def test_a_comment_in_jpeg_ls_goes() -> None:
    plain = clean(coded(JPEGLSLossless))
    data = with_segments(plain, segment(0xFE, SECRET))
    assert foreign(data)
    assert clean(data) == plain


def test_a_colour_transform_in_jpeg_ls_is_not_guessed_at() -> None:
    with pytest.raises(BrokenImageError):
        clean(with_segments(coded(JPEGLSLossless), segment(0xE8, b"mrfx\x01")))


def _with_j2k_comment(data: bytes) -> bytes:
    after_siz = 4 + int.from_bytes(data[4:6], "big")
    return data[:after_siz] + segment(0x64, b"\0\x01" + SECRET) + data[after_siz:]


def test_a_comment_in_jpeg_2000_goes() -> None:
    plain = clean(coded(JPEG2000Lossless))
    data = _with_j2k_comment(plain)
    assert foreign(data)
    assert clean(data) == plain
    assert clean(data + SECRET) == plain


def test_a_comment_in_a_tile_is_blanked_and_lengths_stay_true() -> None:
    plain = clean(coded(JPEG2000Lossless))
    at = plain.index(b"\xff\x90")
    comment = segment(0x64, b"\0\x01" + SECRET)
    length = int.from_bytes(plain[at + 6 : at + 10], "big")
    tile = plain[at : at + 6] + (length + len(comment)).to_bytes(4, "big") + plain[at + 10 : at + 12]
    data = plain[:at] + tile + comment + plain[at + 12 :]
    cleaned = clean(data)
    assert SECRET not in cleaned
    assert len(cleaned) == len(data)
    assert np.array_equal(decoded(cleaned), decoded(plain))


def test_boxes_around_jpeg_2000_go_but_for_what_a_decoder_needs() -> None:
    stream = BytesIO()
    Image.fromarray(skin(48, 64)).save(stream, "JPEG2000")
    data = stream.getvalue()
    assert data[4:8] == b"jP  "
    box = (8 + len(SECRET)).to_bytes(4, "big") + b"xml " + SECRET
    start = data.index(b"jp2h") - 4
    spoiled = data[:start] + box + data[start:] + box
    assert SECRET not in clean(spoiled)
    assert np.array_equal(decoded(clean(spoiled)), decoded(data))
    assert shape(spoiled) == Shape(48, 64, 3, 8)


@pytest.mark.parametrize("data", [jpeg(), coded(JPEGLSLossless), coded(JPEG2000Lossless)])
def test_the_frame_header_is_read(data: bytes) -> None:
    assert shape(data) == Shape(rows=48, columns=64, samples=3, precision=8)


CUT = (b"", b"\xff", b"GIF89a", b"\xff\xd8", b"\xff\x4f\xff\x51", b"\xff\xd8\xff\xe1\x00\x01", jpeg()[:-2])


@pytest.mark.parametrize("data", CUT)
def test_what_is_no_complete_image_is_broken(data: bytes) -> None:
    assert foreign(data)
    with pytest.raises(BrokenImageError):
        clean(data)


@settings(deadline=None, max_examples=150)
@given(st.sampled_from([jpeg(), coded(JPEGLSLossless), coded(JPEG2000Lossless)]), st.data())
def test_damage_ends_in_one_kind_of_error(data: bytes, draw: st.DataObject) -> None:
    place = draw.draw(st.integers(0, min(len(data) - 1, 700)))
    broken = (
        data[:place] + draw.draw(st.binary(max_size=6)) + data[draw.draw(st.integers(place, len(data))) :]
    )
    for look in (clean, shape):
        with suppress(BrokenImageError):
            look(broken)
    assert foreign(broken) in {True, False}
