"""The quick writer writes what pydicom would, or leaves it to pydicom."""

from io import BytesIO
from pathlib import Path

import pytest
from canary import canary
from photographs import encoded as as_syntax
from photographs import photograph, skin
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    RLELossless,
)

from gateway import part10
from gateway.errors import Held
from gateway.writer import encoded


def by_pydicom(ds: Dataset) -> bytes:
    buffer = BytesIO()
    ds.preamble = bytes(128)
    with part10.quiet():
        dcmwrite(buffer, ds, enforce_file_format=True)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGBaseline8Bit, RLELossless]
)
@pytest.mark.parametrize("decoded", [True, False])
def test_what_is_written_quickly_is_what_pydicom_writes(syntax: str, decoded: bool) -> None:
    ds = photograph(skin())
    canary(ds)
    file = by_pydicom(as_syntax(ds, syntax))
    read = dcmread(BytesIO(file))
    if decoded:
        with part10.quiet():
            list(read.iterall())
    same = (
        b"".join(encoded(read) or []) == file
    )  # on its own, for pytest would lay the long bytes side by side
    assert same


@pytest.mark.parametrize("syntax", [DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_what_needs_thought_is_left_to_pydicom(syntax: str) -> None:
    ds = as_syntax(photograph(skin()), syntax)
    assert encoded(dcmread(BytesIO(by_pydicom(ds)))) is None
    assert part10.write(dcmread(BytesIO(by_pydicom(ds))))[128:132] == b"DICM"


def test_a_value_too_long_for_its_vr_is_left_to_pydicom() -> None:
    ds = photograph(skin())
    with part10.quiet():
        ds.ImageComments = "x" * 70_000
    assert encoded(ds) is None


def test_a_file_without_its_meta_information_is_left_to_pydicom() -> None:
    ds = photograph(skin())
    del ds.file_meta.MediaStorageSOPClassUID
    assert encoded(ds) is None


def test_real_files_are_written_as_they_were_read(shared: Path) -> None:
    same = 0
    for file in sorted((shared / "data" / "dicom" / "syntaxes").rglob("*.dcm"))[:60]:
        if file.stat().st_size > 2_000_000:
            continue
        try:
            read = part10.read(file)
            again = part10.read(part10.write(read))
        except Held:
            continue
        before = part10.read(file)
        with part10.quiet():
            for tag in before.keys():  # noqa: SIM118  iterating a Dataset would parse every element
                assert tag.element == 0 or again[tag] == before[tag]
        same += 1
    assert same > 20
