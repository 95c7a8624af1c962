"""The profile: the standard's table as data, resolved for photographs, and closed to everything else."""

import csv
from pathlib import Path

import pytest
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.uid import UID

from gateway.errors import Misconfigured
from gateway.profiles import SOP_CLASSES, Action, Profile, load, rule, table

ROOT = Path(__file__).resolve().parents[2]
BASIC = Profile()
AS_PRINTED = Profile(dates="remove")


def action(keyword: str, profile: Profile = BASIC) -> Action:
    tag = tag_for_keyword(keyword)
    assert tag is not None
    return profile.action(tag, dictionary_VR(tag))


def test_the_table_says_what_the_standard_says(shared: Path) -> None:
    source = shared / "standards" / "ps3.15_table_e1-1_2026c.tsv"
    seen = 0
    for row in csv.DictReader(source.read_text("utf-8").splitlines(), delimiter="\t"):
        pattern = row["tag"][1:10].replace(",", "").lower()
        found = table()["private" if pattern.startswith("gggg") else pattern]
        assert found.basic == row["basic"].rstrip("*")
        assert found.options.get("modified-dates", "") == row["retain_modified_dates"]
        assert found.options.get("uids", "") == row["retain_uids"]
        assert found.options.get("descriptors", "") == row["clean_descriptors"]
        assert found.source == "E.1-1"
        seen += 1
    assert seen == sum(r.source == "E.1-1" for r in table().values())


def test_the_table_is_complete() -> None:
    assert sum(r.source == "E.1-1" for r in table().values()) == 656


def test_no_attribute_of_the_standards_table_is_kept() -> None:
    kept = [r.tag for r in table().values() if r.source == "E.1-1" and "K" in r.basic]
    assert kept == []


def test_the_treated_objects_are_known_to_the_standard() -> None:
    assert all(UID(uid).name == name for uid, name in SOP_CLASSES.items())


@pytest.mark.parametrize(
    "keyword",
    ["Rows", "Columns", "BitsStored", "PhotometricInterpretation", "ICCProfile", "PixelData", "Modality",
     "LossyImageCompression", "ImmersionMedia", "FNumber", "BodyPartExamined", "ManufacturerModelName"],
)  # fmt: skip
def test_what_describes_the_picture_passes(keyword: str) -> None:
    assert action(keyword) is Action.KEEP


@pytest.mark.parametrize(
    "keyword",
    ["OtherPatientIDs", "PatientComments", "InstitutionName", "StudyDescription", "GPSLatitude", "MakerNote",
     "IconImageSequence", "SourceImageSequence", "PatientAge", "TimezoneOffsetFromUTC", "LensSerialNumber"],
)  # fmt: skip
def test_what_identifies_is_removed(keyword: str) -> None:
    assert action(keyword) is Action.REMOVE


@pytest.mark.parametrize(
    "keyword",
    ["BatteryLevel", "TextValue", "SelectorLOValue", "PatientMotherBirthName", "DataSetTrailingPadding"],
)
def test_what_the_table_does_not_pass_is_not_kept(keyword: str) -> None:
    assert action(keyword) is not Action.KEEP


def test_the_patient_gets_a_pseudonym_and_the_rest_of_type_2_is_emptied() -> None:
    assert action("PatientID") is Action.DUMMY
    assert action("PatientName") is Action.DUMMY
    for keyword in ("PatientBirthDate", "PatientSex", "AccessionNumber", "ReferringPhysicianName", "StudyID"):
        assert action(keyword) is Action.EMPTY


def test_composite_actions_keep_the_object_valid() -> None:
    assert rule(0x00181000) is not None  # Device Serial Number, X/Z/D, type 1 in Dermoscopic Photography
    assert action("DeviceSerialNumber") is Action.DUMMY
    assert action("AcquisitionContextSequence") is Action.EMPTY  # X/Z, type 2 in VL Photographic
    assert action("InstitutionName") is Action.REMOVE  # X/Z/D, type 3
    assert action("ProtocolName") is Action.REMOVE  # X/D, not part of these objects


@pytest.mark.parametrize(
    "keyword", ["StudyDate", "SeriesTime", "AcquisitionDateTime", "ContentDate", "InstanceCreationDate"]
)
def test_dates_of_the_picture_move(keyword: str) -> None:
    assert action(keyword) is Action.CLEAN
    assert action(keyword, AS_PRINTED) in {Action.EMPTY, Action.REMOVE, Action.DUMMY}


def test_birth_dates_never_move() -> None:
    assert action("PatientBirthDate") is Action.EMPTY
    assert action("PatientBirthTime") is Action.REMOVE


def test_private_curves_overlays_and_the_unknown_are_removed() -> None:
    for tag in (
        0x00091001,
        0x00090010,
        0x50000010,
        0x60003000,
        0x601E4000,
        0x60000010,
        0x00080000,
        0x12345678,
    ):
        assert BASIC.action(tag, "LO") is Action.REMOVE


def test_every_kept_text_is_on_the_short_list() -> None:
    kept = {
        r.name for r in table().values()
        if r.basic == "K" and dictionary_VR(int(r.tag, 16)) in {"LO", "SH", "ST", "LT", "UT", "UC", "UR", "PN", "AE"}
    }  # fmt: skip
    assert kept == {
        "Manufacturer", "Manufacturer's Model Name", "Software Versions", "Code Value", "Coding Scheme Designator",
        "Coding Scheme Version", "Code Meaning", "Long Code Value", "URN Code Value", "Rescale Type",
    }  # fmt: skip


def test_a_profile_can_describe_itself() -> None:
    lines = BASIC.describe()
    assert len(lines) == len(table())
    assert ("00100020", "Patient ID", "D", "house") in lines
    assert ("00280010", "Rows", "K", "image") in lines


def test_the_shipped_profile_loads() -> None:
    profile = load(ROOT / "conf" / "profiles" / "basic.toml")
    assert profile == Profile()


def test_an_override_wins(tmp_path: Path) -> None:
    file = tmp_path / "site.toml"
    file.write_text('dates = "remove"\n[override]\n"(0018,1030)" = "K"\n"(0008,0070)" = "X"\n')
    profile = load(file)
    assert profile.name == "site"
    assert action("ProtocolName", profile) is Action.KEEP
    assert action("Manufacturer", profile) is Action.REMOVE
    assert action("StudyDate", profile) is Action.EMPTY


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('datse = "shift"', "unknown key"),
        ('dates = "keep"', "dates must be"),
        ('[override]\n"0018,1030" = "K"', "write tags"),
        ('[override]\n"(0018,1030)" = "Q"', "must be one of"),
        ('[override]\n"(0018,1030)" = 1', "must be one of"),
        ('[override]\n"(0009,1030)" = "K"', "can only be removed"),
        ('[override]\n"(0018,1030)" = "C"', "moves dates"),
        ('[override]\n"(0018,1030)" = "U"', "replaces UIDs"),
        ("override = 3", "must be a table"),
        ("not toml", "cannot be read"),
    ],
)
def test_a_wrong_profile_is_an_error_that_says_why(tmp_path: Path, content: str, says: str) -> None:
    file = tmp_path / "site.toml"
    file.write_text(content)
    with pytest.raises(Misconfigured, match=says):
        load(file)


def test_a_missing_profile_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="cannot be read"):
        load(tmp_path / "none.toml")
