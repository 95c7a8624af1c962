"""Headers: every encoding is read, everything broken is told, nothing takes more than its limit."""

from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from photographs import photograph, skin
from pydicom.dataset import Dataset
from pydicom.filewriter import write_file_meta_info
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)
from pynetdicom.dsutils import create_file_meta, split_dataset

from gateway import header

SYNTAXES = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
    RLELossless,
    JPEGLSLossless,
    JPEG2000Lossless,
)
MIB = 1 << 20


def file_of(ds: Dataset) -> bytes:
    stream = BytesIO()
    ds.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def read(
    folder: Path, content: bytes, syntax: str = ExplicitVRLittleEndian, limit: int = 64 * MIB
) -> header.Header:
    file = folder / "object.dcm"
    file.write_bytes(content)
    return header.read(file, UID(syntax), limit)


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_every_encoding_is_read_up_to_the_pixels(tmp_path: Path, syntax: str) -> None:
    ds = photograph(skin(), syntax=syntax)
    found = read(tmp_path, file_of(ds), syntax)
    assert (found.sop_class, found.sop_instance) == (ds.SOPClassUID, ds.SOPInstanceUID)
    assert (found.study, found.series) == (ds.StudyInstanceUID, ds.SeriesInstanceUID)
    assert found.has_pixels


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("undefined", [True, False])
def test_nested_sequences_of_either_length_are_walked(tmp_path: Path, syntax: str, undefined: bool) -> None:
    ds = photograph(skin(), syntax=syntax)
    inner = ds
    for _ in range(5):
        item = Dataset()
        item.SOPInstanceUID = "1.2.3.4.5.6.7"  # not the object's own
        item.is_undefined_length_sequence_item = undefined
        inner.SourceImageSequence = Sequence([item])
        inner["SourceImageSequence"].is_undefined_length = undefined
        inner = item
    assert read(tmp_path, file_of(ds), syntax).sop_instance == ds.SOPInstanceUID


def test_the_digest_is_of_the_data_set_alone(tmp_path: Path) -> None:
    ds = photograph(skin())
    first = read(tmp_path, file_of(ds))
    ds.file_meta.ImplementationVersionName = "ANOTHER"
    ds.preamble = b"\x01" * 128
    second = read(tmp_path, file_of(ds))
    assert first.sha256 == second.sha256
    ds.PatientName = "Someone^Else"
    assert read(tmp_path, file_of(ds)).sha256 != first.sha256


def test_an_object_without_pixels_is_read_and_told_so(tmp_path: Path) -> None:
    ds = photograph(skin())
    del ds.PixelData
    assert not read(tmp_path, file_of(ds)).has_pixels


@pytest.mark.parametrize(
    "keyword", ["SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"]
)
def test_a_missing_identifier_is_unparsable(tmp_path: Path, keyword: str) -> None:
    ds = photograph(skin())
    file = file_of(ds)
    text = str(ds[keyword].value).encode()
    padded = text + b"\0" * (len(text) % 2)
    spoiled = file[:144] + file[144:].replace(padded, b"x" * len(padded))
    with pytest.raises(header.Unparsable, match="identifier"):
        read(tmp_path, spoiled)


@pytest.mark.parametrize("syntax", SYNTAXES[:4])
def test_an_object_cut_off_anywhere_before_its_pixels_end_is_unparsable(tmp_path: Path, syntax: str) -> None:
    ds = photograph(skin(8, 8), syntax=syntax)
    # UIDs of fixed length, so that no cut falls between two elements: what ends there is whole, but for its pixels.
    for number, keyword in enumerate(("SOPInstance", "StudyInstance", "SeriesInstance", "FrameOfReference")):
        setattr(ds, f"{keyword}UID", f"1.2.826.0.1.3680043.8.498.{10**37 + number}")
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    whole = file_of(ds)
    # A deflated object may be padded by one byte, and its last bits may lie in the one before.
    for end in (*range(150, len(whole) - 3, 37), len(whole) - 3):
        with pytest.raises(header.Unparsable):
            read(tmp_path, whole[:end], syntax)


def test_an_object_in_another_encoding_than_was_negotiated_is_unparsable(tmp_path: Path) -> None:
    with pytest.raises(header.Unparsable):
        read(tmp_path, file_of(photograph(skin(), syntax=ImplicitVRLittleEndian)), ExplicitVRLittleEndian)
    with pytest.raises(header.Unparsable):
        read(tmp_path, file_of(photograph(skin())), ExplicitVRBigEndian)
    with pytest.raises(header.Unparsable, match="not deflated"):
        read(tmp_path, file_of(photograph(skin())), DeflatedExplicitVRLittleEndian)


def test_a_small_file_that_inflates_beyond_the_limit_is_unparsable(tmp_path: Path) -> None:
    bomb = photograph(skin(8, 8))
    bomb.PixelData = bytes(64 * MIB)
    bomb.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    content = file_of(bomb)
    assert len(content) < MIB
    with pytest.raises(header.Unparsable, match="inflates beyond"):
        read(tmp_path, content, DeflatedExplicitVRLittleEndian, limit=32 * MIB)


def test_an_object_larger_than_the_limit_is_unparsable(tmp_path: Path) -> None:
    with pytest.raises(header.Unparsable, match="max_object_mb"):
        read(tmp_path, file_of(photograph(skin(700, 700))), limit=MIB)


def test_endless_nesting_is_unparsable(tmp_path: Path) -> None:
    whole = file_of(photograph(skin(8, 8)))
    start = whole.index(b"\x08\x00\x05\x00CS")
    deep = b"\x08\x00\x12\x21SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff" * 2000
    with pytest.raises(header.Unparsable, match="nested too deeply"):
        read(tmp_path, whole[:start] + deep)


def test_a_header_of_countless_items_is_unparsable(tmp_path: Path) -> None:
    whole = file_of(photograph(skin(8, 8)))
    start = whole.index(b"\x08\x00\x05\x00CS")
    many = b"\x08\x00\x12\x21SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\0\0\0\0" * (header.ELEMENTS + 1)
    with pytest.raises(header.Unparsable, match="too many"):
        read(tmp_path, whole[:start] + many)


WHOLE = file_of(photograph(skin(8, 8)))


@settings(max_examples=150, deadline=None)
@given(place=st.integers(132, len(WHOLE) - 1), value=st.binary(min_size=1, max_size=8))
def test_no_spoiled_byte_leads_anywhere_but_to_a_header_or_to_unparsable(
    tmp_path_factory: pytest.TempPathFactory, place: int, value: bytes
) -> None:
    spoiled = WHOLE[:place] + value + WHOLE[place + len(value) :]
    try:
        found = read(tmp_path_factory.getbasetemp(), spoiled)
    except header.Unparsable:
        return
    assert found.size_bytes == len(spoiled)


def received(source: Path, folder: Path) -> tuple[Path, UID]:
    """A file as the listener would have written it: the data set of ``source`` behind a file meta of its own."""
    meta, start = split_dataset(source)
    syntax = UID(meta.get("TransferSyntaxUID") or ImplicitVRLittleEndian)
    stream = BytesIO()
    stream.write(bytes(128) + b"DICM")
    write_file_meta_info(
        stream, create_file_meta(sop_class_uid="1.2", sop_instance_uid="1.3", transfer_syntax=syntax)
    )
    file = folder / "object.dcm"
    file.write_bytes(stream.getvalue() + source.read_bytes()[start:])
    return file, syntax


KEYWORDS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")


@pytest.mark.filterwarnings("ignore")
def test_objects_of_every_origin_are_read_as_pydicom_reads_them(tmp_path: Path, shared: Path) -> None:
    compared = 0
    for source in sorted((shared / "data" / "dicom" / "syntaxes").iterdir()):
        expected = pydicom.dcmread(source, force=True, specific_tags=list(KEYWORDS))
        if not all(expected.get(keyword) for keyword in KEYWORDS) or "bad_sequence" in source.name:
            continue
        file, syntax = received(source, tmp_path)
        found = header.read(file, syntax, 1 << 31)
        values = (found.sop_class, found.sop_instance, found.study, found.series)
        assert values == tuple(expected[keyword].value for keyword in KEYWORDS), source.name
        assert header.transfer_syntax(file) == syntax
        assert header.digest(file) == found.sha256
        compared += 1
    assert compared > 50


@pytest.mark.filterwarnings("ignore")
def test_malformed_objects_are_read_or_unparsable_and_nothing_else(tmp_path: Path, shared: Path) -> None:
    unparsable = []
    for source in sorted((shared / "data" / "dicom" / "malformed").iterdir()):
        try:
            file, syntax = received(source, tmp_path)
        except Exception:  # noqa: BLE001 - not even the test can make a received file of it
            continue
        try:
            header.read(file, syntax, 1 << 31)
        except header.Unparsable:
            unparsable.append(source.name)
    assert any("uid_traversal" in name for name in unparsable)
    assert any("depth_100" in name for name in unparsable)
