"""The quick reader reads what pydicom would, or leaves it to pydicom; nothing hides between elements it vouches for."""

from io import BytesIO
from pathlib import Path

import pytest
from canary import SCRIPTS, canary
from hypothesis import given, settings
from hypothesis import strategies as st
from photographs import encoded, photograph, skin
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.dataelem import RawDataElement
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    RLELossless,
)

from gateway import part10, reader

META = 144


def file_of(ds: Dataset, syntax: str = ExplicitVRLittleEndian) -> bytes:
    buffer = BytesIO()
    with part10.quiet():
        dcmwrite(buffer, encoded(ds, syntax), enforce_file_format=True)
    return buffer.getvalue()


SMALL = file_of(photograph(skin(4, 4), study="1.2.3", sop_instance="1.2.3.4"))


def same(ours: Dataset, theirs: Dataset) -> None:
    """The same elements as they were read, and the same way to decode them, at every depth."""
    assert list(ours.keys()) == list(theirs.keys())
    assert ours.original_encoding == theirs.original_encoding
    assert ours.original_character_set == theirs.original_character_set
    for tag in ours.keys():  # noqa: SIM118  iterating a Dataset would parse every element
        one, other = ours.get_item(tag), theirs.get_item(tag)
        if not isinstance(one, RawDataElement) or not isinstance(other, RawDataElement):
            assert ours[tag] == theirs[tag]
            continue
        equal = one == other  # on its own, for pytest would lay long values side by side
        assert equal, tag
        if one.VR == "SQ" and one.value:
            items = reader.items(one, ours)
            if items is not None:
                assert len(items) == len(theirs[tag].value)
                for item, its in zip(items, theirs[tag].value, strict=True):
                    same(item, its)


@pytest.mark.parametrize("character_set", SCRIPTS)
@pytest.mark.parametrize(
    "syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGBaseline8Bit, RLELossless]
)
def test_what_is_read_quickly_is_what_pydicom_reads(syntax: str, character_set: str) -> None:
    ds = photograph(skin())
    canary(ds, SCRIPTS[character_set])
    ds.SpecificCharacterSet = character_set.split("\\")
    file = file_of(ds, syntax)
    with part10.quiet():
        ours, theirs = reader.read(file), dcmread(BytesIO(file))
        assert ours is not None
        same(ours, theirs)
        assert ours.file_meta == theirs.file_meta
    assert reader.read(file, whole=True) is not None


def test_real_files_are_read_as_pydicom_reads_them(shared: Path) -> None:
    quick = 0
    for file in sorted((shared / "data" / "dicom").rglob("*")):
        if not file.is_file() or file.stat().st_size > 2_000_000:
            continue
        data = file.read_bytes()
        ours = reader.read(data)
        if ours is None:
            continue
        with part10.quiet():
            theirs = dcmread(BytesIO(data))
            same(ours, theirs)
            assert ours.file_meta == theirs.file_meta
        assert part10.peek(file, ["SOPClassUID"]).get("SOPClassUID") == theirs.get("SOPClassUID")
        quick += 1
    assert quick > 80


@pytest.mark.parametrize("syntax", [ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_what_needs_thought_is_left_to_pydicom(syntax: str) -> None:
    file = file_of(photograph(skin()), syntax)
    assert reader.read(file) is None
    assert reader.read(file, whole=True) is None
    assert part10.read(file).PatientID


def test_a_sequence_without_a_stated_length_is_read(tmp_path: Path) -> None:
    ds = photograph(skin())
    ds["RequestAttributesSequence"].is_undefined_length = True
    ds.RequestAttributesSequence[0].is_undefined_length_sequence_item = True
    file = file_of(ds)
    ours = reader.read(file)
    assert ours is not None
    assert ours.RequestAttributesSequence == ds.RequestAttributesSequence
    assert reader.read(file, whole=True) is not None


def test_pixels_that_lie_beyond_the_beginning_are_read_once_and_whole(tmp_path: Path) -> None:
    (tmp_path / "large.dcm").write_bytes(file := file_of(photograph(skin(700, 700))))
    assert len(file) > 1 << 20
    ours = part10.read(tmp_path / "large.dcm")
    whole = ours.PixelData == dcmread(BytesIO(file)).PixelData
    assert whole
    (tmp_path / "cut.dcm").write_bytes(file[:-1000])
    with part10.quiet():
        assert len(part10.read(tmp_path / "cut.dcm").PixelData) < len(ours.PixelData)


def test_a_data_set_made_quickly_is_what_pydicom_makes() -> None:
    ours, theirs = reader.data_set({}, ["utf8"]), Dataset({}, parent_encoding=["utf8"])
    assert type(ours) is Dataset
    assert vars(ours) == vars(theirs)


def test_data_sets_made_quickly_share_nothing() -> None:
    one, other = reader.data_set({}), reader.data_set({})
    one.PatientID = "1"
    one.private_block(0x0009, "SOMEBODY", create=True)
    held = [[value for value in vars(ds).values() if isinstance(value, dict)] for ds in (one, other)]
    assert held[0]
    assert not {id(value) for value in held[0]} & {id(value) for value in held[1]}
    assert vars(other) == vars(Dataset())


def test_a_look_at_a_file_does_not_copy_its_pixels() -> None:
    file = file_of(photograph(skin(300, 300)))
    seen = part10.look(file).ds.get_item("PixelData")
    assert isinstance(seen.value, memoryview)
    assert seen.value.obj is file
    assert bytes(seen.value) == part10.read(file).PixelData


def test_bytes_that_belong_to_no_element_are_seen() -> None:
    ds = photograph(skin(8, 8))
    file = file_of(ds)
    begin = META + int.from_bytes(file[140:META], "little")
    at = file.index(b"\x40\x00\x75\x02SQ")
    assert reader.read(file, whole=True) is not None
    for broken in (
        b"MM\0*" + file[4:],
        file + b"\0" * 8,
        file + b"\0",
        file[:-1],
        file[: at + 6] + b"ZZ" + file[at + 8 :],  # the two bytes that are reserved behind a long VR
        file[:begin] + b"\x08\x00\x00\x00" + file[begin:],
        file[:begin] + file[begin : begin + 8] + file[begin:],
    ):
        assert reader.read(broken, whole=True) is None


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_whatever_is_broken_it_is_read_as_by_pydicom_or_left_to_it(data: st.DataObject) -> None:
    file = bytearray(SMALL)
    for _ in range(data.draw(st.integers(1, 3))):
        file[data.draw(st.integers(128, len(file) - 1))] = data.draw(st.integers(0, 255))
    file = file[: data.draw(st.sampled_from([len(file), len(file) - 7, len(file) // 2]))]
    ours = reader.read(bytes(file))
    if ours is None:
        return
    with part10.quiet():
        theirs = dcmread(BytesIO(bytes(file)))
        assert list(ours.keys()) == list(theirs.keys())
        for tag in ours.keys():  # noqa: SIM118  iterating a Dataset would parse every element
            one, other = ours.get_item(tag), theirs.get_item(tag)
            if isinstance(one, RawDataElement) and isinstance(other, RawDataElement):
                assert one == other
