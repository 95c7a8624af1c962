"""The search for what is left: it finds what was put there, and nothing where nothing is."""

import time
from collections.abc import Callable
from io import BytesIO

import numpy as np
import pytest
from canary import canary
from hypothesis import given, settings
from hypothesis import strategies as st
from photographs import Patient, photograph, skin
from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.encaps import encapsulate, generate_frames
from pydicom.tag import BaseTag
from pydicom.uid import JPEGBaseline8Bit, JPEGLSLossless

from gateway import frames, part10
from gateway.errors import Held
from gateway.haystack import search
from gateway.mark import mark
from gateway.needles import collect
from gateway.profiles import Action, Option, Profile
from gateway.pseudonym import Pseudonyms
from gateway.residue import residue
from gateway.scrub import scrub

SITE = Pseudonyms(bytes(32))
BASIC = Profile()
PATIENT = Patient()


def received(ds: Dataset) -> Dataset:
    buffer = BytesIO()
    with part10.quiet():
        ds.save_as(buffer, enforce_file_format=True)
    return part10.read(buffer.getvalue())


def treated(original: Dataset, profile: Profile = BASIC) -> Dataset:
    clean = scrub(original, profile, SITE)
    frames.encode(clean, frames.decode(clean))
    mark(clean, profile, pixels_clean=True, features_clean=True, edited=False)
    return clean


@pytest.fixture
def original() -> Dataset:
    return received(photograph(skin()))


@pytest.mark.parametrize("syntax", [None, JPEGBaseline8Bit, JPEGLSLossless])
def test_a_clean_file_has_no_residue(syntax: str | None) -> None:
    ds = photograph(skin(), **({"syntax": syntax} if syntax else {}))
    canary(ds)
    original = received(ds)
    assert residue(original, part10.write(treated(original)), BASIC) == []


def test_a_clean_file_has_no_residue_where_dates_are_removed(original: Dataset) -> None:
    profile = Profile(options=frozenset())
    assert residue(original, part10.write(treated(original, profile)), profile) == []


def test_the_original_itself_is_full_of_residue() -> None:
    ds = photograph(skin())
    tokens = canary(ds)
    original = received(ds)
    with part10.quiet():
        found = residue(original, part10.write(received(ds)), BASIC)
    assert len(found) > 300
    assert any("Patient ID" in f for f in found)
    assert not any(token in sentence for token in tokens.texts for sentence in found)


LAST, FIRST = PATIENT.name.split("^")[:2]


@pytest.mark.parametrize(
    ("value", "attribute"),
    [
        (LAST, "Patient's Name"),
        (LAST.lower(), "Patient's Name"),
        (LAST.upper(), "Patient's Name"),
        (f"photo of {FIRST}.", "Patient's Name"),
        (PATIENT.number, "Patient ID"),
        (f"({PATIENT.number.lower()})", "Patient ID"),
        (PATIENT.accession, "Accession Number"),
        (PATIENT.birth_date, "Birth Date"),
        ("1951-04-17", "Birth Date"),
        ("17.04.1951", "Birth Date"),
        ("1951:04:17 10:15:30", "Birth Date"),
        ("04/17/1951", "Birth Date"),
        ("born 17/04/1951", "Birth Date"),
        (PATIENT.hospital, "Institution Name"),
        ("Balduin", "Name"),
        ("Photo of Zweifelsfrei", "Patient's Name"),
        ("SN-0099173", "Device Serial Number"),
    ],
)
@pytest.mark.parametrize(
    "where", ["CodeMeaning", "SoftwareVersions", "DeidentificationMethodCodeSequence", "private"]
)
def test_a_value_left_in_a_text_is_found(original: Dataset, value: str, attribute: str, where: str) -> None:
    clean = treated(original)
    if where == "private":
        clean.private_block(0x11, "SOMEBODY", create=True).add_new(1, "LO", value)
    elif where == "SoftwareVersions":
        clean.SoftwareVersions = value
    elif where == "CodeMeaning":
        code = Dataset()
        code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "1", "SCT", value
        clean.AnatomicRegionSequence = [code]
    else:
        clean.DeidentificationMethodCodeSequence[0].CodeMeaning = value
    found = residue(original, part10.write(clean), BASIC)
    assert any(attribute in sentence for sentence in found)
    assert not any(value.lower() in sentence.lower() for sentence in found)


def test_a_name_in_a_value_that_was_carried_over_is_found() -> None:
    ds = photograph(skin())
    ds.Manufacturer = f"Studio {LAST}"
    original = received(ds)
    clean = treated(original)
    assert clean.Manufacturer == "Studio"
    clean.Manufacturer = ds.Manufacturer
    assert any("Patient's Name" in s for s in residue(original, part10.write(clean), BASIC))


@pytest.mark.parametrize("number", ["77318899", "077318899", "773-188-99"])
@pytest.mark.parametrize(
    ("keyword", "written"),
    [
        ("InstanceNumber", "77318899"),
        ("SeriesNumber", "+0077318899"),
        ("PixelSpacing", ["77318899.0", "0.5"]),
    ],
)
def test_a_number_that_is_the_patients_is_found(number: str, keyword: str, written: str | list[str]) -> None:
    ds = photograph(skin(), patient=Patient(number=number))
    setattr(ds, keyword, written)
    original = received(ds)
    assert residue(original, part10.write(treated(original)), BASIC) == ["(0010,0020) Patient ID"]


@pytest.mark.parametrize(
    ("tag", "vr"), [(0x00280006, "US"), (0x00209157, "UL"), (0x00280009, "AT"), (0x00700022, "FL")]
)
def test_a_text_in_the_bytes_of_numbers_is_found(original: Dataset, tag: int, vr: str) -> None:
    clean = treated(original)
    value = b"Zweifelsfrei    "
    clean[tag] = RawDataElement(BaseTag(tag), vr, len(value), value, 0, False, True)
    assert "(0010,0010) Patient's Name" in residue(original, part10.write(clean), BASIC)


def test_a_number_that_is_a_day_of_the_original_is_found() -> None:
    ds = photograph(skin())
    ds.InstanceNumber = PATIENT.birth_date
    original = received(ds)
    assert residue(original, part10.write(treated(original)), BASIC) == ["(0010,0030) Patient's Birth Date"]


@pytest.mark.parametrize("number", ["00001", "1", "1234", "773188991", "7731889"])
def test_another_number_is_no_leak(number: str) -> None:
    ds = photograph(skin(), patient=Patient(number=number))
    ds.InstanceNumber, ds.SeriesNumber, ds.PixelSpacing = "1", "77318899", ["1234", "1"]
    original = received(ds)
    assert residue(original, part10.write(treated(original)), BASIC) == []


def test_a_word_of_the_name_in_image_type_becomes_other() -> None:
    ds = photograph(skin())
    ds.PatientName, ds.ImageType = "Perfusion^Primary", ["DERIVED", "PRIMARY", "PERFUSION", "RCBF"]
    original = received(ds)
    clean = treated(original)
    assert clean.ImageType == ["DERIVED", "PRIMARY", "OTHER", "RCBF"]
    assert residue(original, part10.write(clean), BASIC) == []
    clean.ImageType = ds.ImageType
    assert residue(original, part10.write(clean), BASIC) == ["(0010,0010) Patient's Name"]
    ds.PatientName = "Somebody^Else"
    assert treated(received(ds)).ImageType == ["DERIVED", "PRIMARY", "PERFUSION", "RCBF"]


def test_an_identity_in_a_code_that_an_object_must_have_holds() -> None:
    ds = photograph(skin())
    ds.PatientName, ds.ImageType = "Mosaic^Adelheid", ["MOSAIC", "PRIMARY"]
    original = received(ds)
    assert residue(original, part10.write(treated(original)), BASIC) == ["(0010,0010) Patient's Name"]


def test_a_description_that_equals_a_kept_value_is_no_leak() -> None:
    ds = photograph(skin())
    ds.StationName = ds.ManufacturerModelName = "EOS 5D Mark IV"
    ds.SeriesDescription = ds.BodyPartExamined = "FOREARM"
    original = received(ds)
    assert residue(original, part10.write(treated(original)), BASIC) == []


@pytest.mark.parametrize("name", ["M", "Li^Bo", "Photo^Skin", "Anonymous", "Test^Patient", "RGB", "PRIMARY"])
def test_short_and_common_names_raise_no_alarm(name: str) -> None:
    ds = photograph(skin())
    ds.PatientName, ds.PatientID = name, "1"
    ds.StudyID, ds.AccessionNumber = "8", "128"
    original = received(ds)
    assert residue(original, part10.write(treated(original)), BASIC) == []


def test_a_kept_value_of_the_operators_choice_is_no_residue() -> None:
    ds = photograph(skin())
    ds.ProtocolName = "Zeiler protocol"
    original = received(ds)
    profile = Profile(override={0x00181030: Action.KEEP})
    assert residue(original, part10.write(treated(original, profile)), profile) == []
    assert residue(original, part10.write(treated(original, profile)), BASIC) != []


def test_an_original_uid_is_found(original: Dataset) -> None:
    clean = treated(original)
    clean.FrameOfReferenceUID = original.StudyInstanceUID
    assert residue(original, part10.write(clean), BASIC) == ["(0020,000D) Study Instance UID"]


def test_a_uid_that_is_the_beginning_of_a_kept_one_is_no_leak() -> None:
    ds = photograph(skin())
    ds.file_meta.ImplementationClassUID = "1.2.826.0.1"
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = "1.2.826.0.1.3680043.9.1"
    original = received(ds)
    keeps = Profile(options=frozenset({Option.UIDS}))
    clean = treated(original, keeps)
    assert residue(original, part10.write(clean), keeps) == []
    clean.SoftwareVersions = "root 1.2.826.0.1."
    assert residue(original, part10.write(clean), keeps) != []


@pytest.mark.parametrize(
    "value", ["PID7731QX", "pid 7731 qx", "PID/7731/QX", "ＰＩＤ-7731-ＱＸ", "2024年3月12日"]
)
def test_identifiers_with_other_separators_and_days_in_other_notations_are_found(
    original: Dataset, value: str
) -> None:
    clean = treated(original)
    clean.SpecificCharacterSet, clean.SoftwareVersions = "ISO_IR 192", f"v1 {value} x"
    assert residue(original, part10.write(clean), BASIC) != []


def test_accents_and_their_transcriptions_are_found() -> None:
    ds = photograph(skin())
    ds.PatientName = "Müller-Lüdenscheidt^Jürgen"
    original = received(ds)
    clean = treated(original)
    for value in ("MUELLER", "Muller", "Ju\u0308rgen", "juergen"):
        clean.SpecificCharacterSet, clean.SoftwareVersions = "ISO_IR 192", value
        assert residue(original, part10.write(clean), BASIC) == ["(0010,0010) Patient's Name"], value


def test_a_date_that_did_not_move_is_found(original: Dataset) -> None:
    clean = treated(original)
    clean.StudyDate = original.StudyDate
    found = residue(original, part10.write(clean), BASIC)
    assert "(0008,0020) Study Date" in found
    assert "dates moved by different numbers of days" in found


def test_a_moved_date_that_meets_another_original_is_no_leak() -> None:
    ds = photograph(skin())
    shift = SITE.date_shift_days(PATIENT.number)
    ds.StudyDate = "20240101"
    ds.AcquisitionDate = f"{np.datetime64('2024-01-01') + shift}".replace("-", "")
    original = received(ds)
    clean = treated(original)
    assert clean.StudyDate == ds.AcquisitionDate
    assert residue(original, part10.write(clean), BASIC) == []


def test_a_preamble_and_bytes_between_elements_are_found(original: Dataset) -> None:
    file = part10.write(treated(original))
    assert residue(original, b"MM\0*" + file[4:], BASIC) == [
        "the file holds bytes that belong to no element",
        "the preamble is not empty",
    ]
    assert "the file holds bytes that belong to no element" in residue(original, file + b"\0" * 8, BASIC)


@pytest.mark.parametrize("coding", ["utf-8", "utf-16-le", "latin-1"])
def test_a_value_in_other_binary_elements_is_found(original: Dataset, coding: str) -> None:
    clean = treated(original)
    profile = b"icc profile " + LAST.encode(coding) + b"end"
    clean.ICCProfile = profile + b"\0" * (len(profile) % 2)
    assert any("Patient's Name" in s for s in residue(original, part10.write(clean), BASIC))


def test_a_value_in_the_file_meta_is_found(original: Dataset) -> None:
    clean = treated(original)
    clean.file_meta.SourceApplicationEntityTitle = PATIENT.number
    assert any("Patient ID" in s for s in residue(original, part10.write(clean), BASIC))


@pytest.mark.parametrize("place", [0, 1, 2, 3, 40_001, 199_999 - 20])
def test_a_value_in_the_pixels_is_found(place: int) -> None:
    original = received(photograph(skin(250, 300)))
    clean = treated(original)
    pixels = bytearray(clean.PixelData)
    pixels[place : place + len(LAST)] = LAST.encode()
    clean.PixelData = bytes(pixels)
    assert any("Patient's Name" in s for s in residue(original, part10.write(clean), BASIC))


@pytest.mark.parametrize("segment", [b"\xff\xe1\x00\x0aExif\0\0xx", b"\xff\xfe\x00\x06abcd"])
def test_a_segment_beside_the_image_is_found(segment: bytes) -> None:
    original = received(photograph(skin(), syntax=JPEGBaseline8Bit))
    clean = treated(original)
    coded = next(generate_frames(clean.PixelData, number_of_frames=1))
    clean.PixelData = encapsulate([coded[:2] + segment + coded[2:]])
    clean["PixelData"].is_undefined_length = True
    assert "a coded frame carries segments beside its image" in residue(original, part10.write(clean), BASIC)


def test_names_in_other_scripts_are_found() -> None:
    people = (("ISO_IR 192", "山田^太郎"), ("ISO_IR 100", "Sjöström^Åsa"), ("ISO_IR 144", "Иванов^Пётр"))
    for character_set, name in people:
        ds = photograph(skin())
        ds.SpecificCharacterSet, ds.PatientName = character_set, name
        ds.ReferringPhysicianName = ds.InstitutionName = ""
        original = received(ds)
        clean = treated(original)
        assert residue(original, part10.write(clean), BASIC) == []
        clean.SpecificCharacterSet, clean.SoftwareVersions = "ISO_IR 192", f"v1 {name.split('^')[0]} x"
        assert any("Patient's Name" in s for s in residue(original, part10.write(clean), BASIC))


@pytest.mark.parametrize(
    ("name", "number", "text", "attribute"),
    [
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "X-1", "山田のカメラ", "Patient's Name"),
        ("Hong^Gildong=洪^吉洞=홍^길동", "X-1", "홍길동의 사진기", "Patient's Name"),
        ("Somsak^Jaidee=สมศักดิ์^ใจดี", "X-1", "กล้องสมศักดิ์", "Patient's Name"),
        ("Ram^Lal=राम^लाल", "X-1", "राम कैमरा", "Patient's Name"),
        ("Zweifelsfrei^Adelheid", "X-1", "AdelheidZweifelsfrei", "Patient's Name"),
        ("Li^Wu", "X-1", "Studio Wu Li", "Patient's Name"),
        ("Nobody^N", "PID-7731-QX", "Studio PID7731QX", "Patient ID"),
    ],
)
def test_what_was_carried_over_is_searched_for_names_run_together_and_identifiers_without_signs(
    name: str, number: str, text: str, attribute: str
) -> None:
    ds = photograph(skin(), patient=Patient(name=name, number=number))
    ds.Manufacturer = text
    original = received(ds)
    clean = treated(original)
    clean.Manufacturer, clean.SpecificCharacterSet = text, "ISO_IR 192"
    assert any(attribute in sentence for sentence in residue(original, part10.write(clean), BASIC))


def test_an_unreadable_file_is_held(original: Dataset) -> None:
    with pytest.raises(Held):
        residue(original, b"no DICOM at all", BASIC)


def test_needles_name_attributes_not_values(original: Dataset) -> None:
    needles = collect(original, BASIC)
    assert len(needles) > 15
    assert not any(n.text in n.attribute for n in needles)


@settings(deadline=None, max_examples=100)
@given(
    st.binary(min_size=6, max_size=40).filter(lambda b: len(set(b)) > 2),
    st.integers(0, 70_000) | st.integers((1 << 17) - 45, (1 << 17) + 5),
    st.sampled_from([bytes.lower, bytes.upper, bytes.swapcase]),
    st.integers(0, 2**31),
)
def test_the_search_in_pixels_finds_every_string_at_every_place(
    form: bytes, place: int, case: Callable[[bytes], bytes], seed: int
) -> None:
    haystack = bytearray(np.random.default_rng(seed).integers(0, 256, 1 << 18, dtype=np.uint8).tobytes())
    haystack[place : place + len(form)] = case(form)
    assert search(bytes(haystack), {form.lower(): "here", b"\x01never there\x02": "nowhere"}) == {"here"}


@pytest.mark.parametrize("size", range(1 << 17, (1 << 17) + 8))
@pytest.mark.parametrize("form", [b"miller", b"miller7", b"miller77", b"miller777"])
def test_the_search_in_pixels_finds_what_stands_at_the_end(size: int, form: bytes) -> None:
    assert search(bytes(size) + form.upper(), {form: "here"}) == {"here"}


def test_twelve_megapixels_are_searched_within_a_second() -> None:
    original = received(photograph(np.tile(skin(300, 400), (10, 10, 1))))
    file = part10.write(treated(original))
    began = time.process_time()
    assert residue(original, file, BASIC) == []
    assert time.process_time() - began < 1.0
