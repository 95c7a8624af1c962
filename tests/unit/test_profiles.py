"""The profile: the standard's table as data, resolved for photographs, and closed to everything else."""

import csv
from pathlib import Path

import pytest
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.uid import UID

from gateway.cli import main
from gateway.errors import Misconfigured
from gateway.profile_files import PRIVATE_VRS, find, load, shown
from gateway.profiles import CODES, SOP_CLASSES, Action, Option, Private, Profile, known_private, rule, table

ROOT = Path(__file__).resolve().parents[2]
PROFILES = ROOT / "conf" / "profiles"
PHOTOGRAPH, DERMOSCOPY = list(SOP_CLASSES)[:2]
BASIC = Profile()
AS_PRINTED = Profile(options=frozenset())
COLUMNS = {
    Option.SAFE_PRIVATE: "retain_safe_private",
    Option.UIDS: "retain_uids",
    Option.DEVICE: "retain_device_identity",
    Option.INSTITUTION: "retain_institution_identity",
    Option.CHARACTERISTICS: "retain_patient_characteristics",
    Option.FULL_DATES: "retain_full_dates",
    Option.MODIFIED_DATES: "retain_modified_dates",
    Option.DESCRIPTORS: "clean_descriptors",
    Option.STRUCTURED_CONTENT: "clean_structured_content",
    Option.GRAPHICS: "clean_graphics",
}


def action(keyword: str, profile: Profile = BASIC, sop_class: str = PHOTOGRAPH) -> Action:
    tag = tag_for_keyword(keyword)
    assert tag is not None
    return profile.action(tag, dictionary_VR(tag), sop_class)


def test_the_table_says_what_the_standard_says(shared: Path) -> None:
    source = shared / "standards" / "ps3.15_table_e1-1_2026c.tsv"
    seen = 0
    for row in csv.DictReader(source.read_text("utf-8").splitlines(), delimiter="\t"):
        pattern = row["tag"][1:10].replace(",", "").lower()
        found = table()["private" if pattern.startswith("gggg") else pattern]
        assert found.basic == row["basic"].rstrip("*")
        assert {o: found.options.get(o, "") for o in Option} == {o: row[c] for o, c in COLUMNS.items()}
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
     "IconImageSequence", "SourceImageSequence", "PatientAge", "SpecialNeeds", "LensSerialNumber"],
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
    for keyword in ("PatientName", "AccessionNumber", "StudyID"):
        assert action(keyword) is Action.DUMMY
    for keyword in ("PatientBirthDate", "PatientSex", "ReferringPhysicianName"):
        assert action(keyword) is Action.EMPTY


def test_composite_actions_keep_the_object_valid() -> None:
    assert (
        rule(0x00181000) is not None
    )  # Device Serial Number, X/Z/D, type 1 in Dermoscopic Photography alone
    assert action("DeviceSerialNumber", sop_class=DERMOSCOPY) is Action.DUMMY
    assert action("DeviceSerialNumber") is Action.REMOVE
    assert action("AcquisitionContextSequence") is Action.EMPTY  # X/Z, type 2 in VL Photographic
    secondary_capture = list(SOP_CLASSES)[2]
    assert action("AcquisitionContextSequence", sop_class=secondary_capture) is Action.REMOVE
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
        assert BASIC.action(tag, "LO", PHOTOGRAPH) is Action.REMOVE
        assert BASIC.resolved(tag, PHOTOGRAPH)[1] is Action.REMOVE


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
    lines = {line.tag: line for line in BASIC.describe()}
    assert lines.keys() == table().keys()
    assert lines["00100020"].actions == ("D",) * 4
    assert lines["00100020"].source == "house"
    assert lines["00280010"].source == "image"
    assert lines["00181000"].actions == ("X", "D", "X", "X")
    assert lines["00080020"].source == "option"


def test_every_kind_of_object_whose_types_are_not_known_gets_the_strongest_action() -> None:
    for found in table().values():
        codes = found.basic.split("/")
        assert found.resolved("1.2.3") is Action(next(c for c in "DZUXK" if c in codes))


@pytest.mark.parametrize("option", [o for o in Option if o is not Option.SAFE_PRIVATE])
def test_every_option_does_what_its_column_says(option: Option) -> None:
    profile, seen = Profile(options=frozenset({option})), 0
    for key, found in table().items():
        if option not in found.options or "x" in key:
            continue
        tag = int(key, 16)
        vr = dictionary_VR(tag)
        wanted = found.options[option]
        versions = {"00080106", "00080107", "0040db06", "0040db07"}
        if wanted is Action.CLEAN and (vr == "OB" or key in versions):
            wanted = AS_PRINTED.action(tag, vr, PHOTOGRAPH)
        assert profile.action(tag, vr, PHOTOGRAPH) is wanted, key
        seen += 1
    assert seen > 0


@pytest.mark.parametrize("option", list(Option))
def test_an_option_changes_nothing_that_its_column_does_not_name(option: Option) -> None:
    profile = Profile(options=frozenset({option}))
    for key, found in table().items():
        if option not in found.options and "x" not in key and key != "private":
            vr = dictionary_VR(int(key, 16)) if found.name else "UN"
            assert profile.action(int(key, 16), vr, PHOTOGRAPH) is AS_PRINTED.action(
                int(key, 16), vr, PHOTOGRAPH
            )


def test_where_two_options_speak_the_stricter_one_is_heard() -> None:
    calibrated = Profile(options=frozenset({Option.DEVICE, Option.MODIFIED_DATES}))
    assert action("DateOfLastDetectorCalibration", calibrated) is Action.CLEAN


def test_curves_and_overlays_go_even_where_graphics_are_cleaned() -> None:
    profile = Profile(options=frozenset({Option.GRAPHICS}))
    assert action("GraphicAnnotationSequence", profile) is Action.CLEAN
    for tag in (0x60003000, 0x601E4000, 0x50000010, 0x50FE3000):
        assert profile.resolved(tag, PHOTOGRAPH)[1] is Action.REMOVE
    assert (
        BASIC.resolved(0x52009229, PHOTOGRAPH)[1] is Action.KEEP
    )  # no curve, though its group begins with 5


def test_private_attributes_stay_only_where_they_are_known_to_be_safe() -> None:
    profile = Profile(
        options=frozenset({Option.SAFE_PRIVATE}), private={Private("CAMERA MAKER", 0x0011, 5): "DS"}
    )
    assert profile.safe_private("SIEMENS MR HEADER", 0x0019, 0x0C) == "IS"
    assert profile.safe_private("CAMERA MAKER", 0x0011, 5) == "DS"
    assert profile.safe_private("SIEMENS MR HEADER", 0x0019, 0x0B) is None
    assert profile.safe_private("SOMEBODY ELSE", 0x0019, 0x0C) is None
    assert BASIC.safe_private("SIEMENS MR HEADER", 0x0019, 0x0C) is None


def test_the_table_of_safe_private_attributes_holds_numbers_and_codes_alone() -> None:
    assert len(known_private()) > 30
    assert all(
        p.group & 1 and 0 <= p.element <= 0xFF and vr in PRIVATE_VRS for p, vr in known_private().items()
    )


def test_every_option_has_its_code() -> None:
    assert CODES.keys() == set(Option)
    assert len(set(CODES.values())) == len(Option)


def test_dates_cannot_stay_and_move() -> None:
    with pytest.raises(Misconfigured, match="not both"):
        Profile(options=frozenset({Option.FULL_DATES, Option.MODIFIED_DATES}))


def test_the_shipped_profiles_load() -> None:
    assert load(PROFILES / "basic.toml") == Profile()
    loaded = {file.stem: load(file) for file in PROFILES.glob("*.toml")}
    assert loaded.keys() >= {"basic", "strict", "research", "multicentre", "service"}
    assert all(profile.name == name for name, profile in loaded.items())
    assert loaded["strict"].options == frozenset()


@pytest.mark.parametrize("arguments", [[], ["--profile", "basic"], ["--option", "modified-dates"]])
def test_the_documentation_shows_what_the_command_prints(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["profile", "show", "--conf", str(ROOT / "conf" / "gateway.toml"), *arguments]) == 0
    _, header, *printed = capsys.readouterr().out.splitlines()
    assert header == "tag\tattribute\taction\tsource"
    page = (ROOT / "docs" / "attributes.md").read_text("utf-8")
    rows = [
        line.strip("|").split("|")
        for line in page.splitlines()
        if line.startswith(("| (", "| 5", "| 6", "| priv"))
    ]
    documented = {row[0].strip(): [cell.strip() for cell in row[1:4]] for row in rows}
    assert len(printed) == len(documented) == len(table())
    for line in printed:
        tag, *cells = line.split("\t")
        assert [cells[0] or "–", *cells[1:]] == documented[tag]


def test_options_on_the_command_line_replace_those_of_the_profile(capsys: pytest.CaptureFixture[str]) -> None:
    conf = str(ROOT / "conf" / "gateway.toml")
    assert main(["profile", "show", "--conf", conf, "--option", "device", "--option", "full-dates"]) == 0
    printed = capsys.readouterr().out
    assert "(0008,1010)\tStation Name\tK\toption\n" in printed
    assert "(0008,0020)\tStudy Date\tK\toption\n" in printed
    assert main(["profile", "show", "--conf", conf, "--option", "devise"]) == 2
    assert "choose from safe-private" in capsys.readouterr().err


def test_a_profile_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(Misconfigured, match="choose from basic, "):
        find("nobody", PROFILES)
    assert find("strict", PROFILES) == PROFILES / "strict.toml"


def test_an_override_is_shown_with_its_name_though_the_table_has_no_row(tmp_path: Path) -> None:
    file = tmp_path / "site.toml"
    file.write_text('[override]\n"(0018,9004)" = "X"\n"(0018,0022)" = "K"\n')
    assert "(0018,0022)\tScan Options\tK\toverride" in shown(load(file))


def test_an_override_wins(tmp_path: Path) -> None:
    file = tmp_path / "site.toml"
    file.write_text('options = []\n[override]\n"(0018,1030)" = "K"\n"(0008,0070)" = "X"\n')
    profile = load(file)
    assert profile.name == "site"
    assert action("ProtocolName", profile) is Action.KEEP
    assert action("Manufacturer", profile) is Action.REMOVE
    assert action("StudyDate", profile) is Action.EMPTY


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('option = ["uids"]', "unknown key"),
        ('options = "uids"', "must be a list"),
        ('options = ["dates"]', "no option"),
        ('options = ["full-dates", "modified-dates"]', "not both"),
        ("issuer = 3", "must be text"),
        ('[private]\n"(0011,xx05)" = "DS"', "write private"),
        ('[private]\n"(0010,xx05) MAKER" = "DS"', "write private"),
        ('[private]\n"(0011,xx05) MAKER" = "LO"', "must be one of"),
        ('[override]\n"0018,1030" = "K"', "write tags"),
        ('[override]\n"(0018,1030)" = "Q"', "must be one of"),
        ('[override]\n"(0018,1030)" = 1', "must be one of"),
        ('[override]\n"(0009,1030)" = "K"', "can only be removed"),
        ('[override]\n"(0028,0010)" = "C"', "moves dates"),
        ('[override]\n"(0018,1030)" = "U"', "replaces UIDs"),
        ('[override]\n"(0002,0016)" = "X"', "written by the gateway itself"),
        ('[override]\n"(0012,0063)" = "X"', "written by the gateway itself"),
        ('[override]\n"(0020,000D)" = "X"', "needed in every object"),
        ('[override]\n"(7FE0,0010)" = "Z"', "needed in every object"),
        ('[override]\n"(0028,0010)" = "D"', "needed in every object"),
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
