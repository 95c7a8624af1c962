"""An answer key in the ten actions of MIDI-B, over invented patients: everything in it is met."""

from pathlib import Path

import pytest
from answer_key import ACTIONS, Check, judge, labelled, legible_after, photographed, without_people
from photographs import photograph, save, skin
from pydicom import Dataset
from pydicom.uid import JPEGBaseline8Bit

from gateway import frames, part10
from gateway.burnin import TextFinder
from gateway.deidentify import MetadataOnly
from gateway.profile_files import load
from gateway.pseudonym import Pseudonyms

PATIENTS = 40
RESEARCH = load(Path(__file__).parents[2] / "conf" / "profiles" / "research.toml")
SITE = Pseudonyms(b"a key for tests, 32 bytes or more")


@pytest.fixture(scope="module")
def treated(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[list[Dataset], dict[int, Dataset], list[Check]]:
    """The originals, what left, and the key."""
    folder = tmp_path_factory.mktemp("answer-key")
    originals, key = photographed(PATIENTS)
    treat = MetadataOnly(RESEARCH, SITE)
    results = {}
    for number, ds in enumerate(originals):
        with part10.quiet():
            file = save(ds, folder / f"{number}.dcm")
        results[number] = part10.read(treat(file).file)
    return originals, results, key


def test_every_check_of_the_key_is_passed(
    treated: tuple[list[Dataset], dict[int, Dataset], list[Check]],
) -> None:
    _, results, key = treated
    made, failed = judge(key, results)
    assert failed == []
    assert made.total() >= 2000
    assert made.keys() == set(ACTIONS) - {"pixels_hidden"}
    assert len({results[n].PatientID for n in results}) == PATIENTS


def test_the_judge_is_not_content_with_originals_or_with_nothing(
    treated: tuple[list[Dataset], dict[int, Dataset], list[Check]],
) -> None:
    originals, results, key = treated
    _, failed = judge(key, dict(enumerate(originals)))
    assert {check.action for check in failed} == {"text_removed", "date_shifted", "uid_changed"}
    _, failed = judge(key, {})
    assert {check.action for check in failed} == {check.action for check in key}
    emptied = {number: Dataset() for number in results}
    for ds in emptied.values():
        ds.file_meta, ds.PixelData = results[0].file_meta, b""
    _, failed = judge([check for check in key if "Referenced" not in check.where], emptied)
    assert {check.action for check in failed} == set(ACTIONS) - {"pixels_hidden", "text_removed"}


def test_the_judge_sees_one_patient_taken_for_two_and_two_for_one(
    treated: tuple[list[Dataset], dict[int, Dataset], list[Check]],
) -> None:
    _, results, key = treated
    key = [check for check in key if check.action == "patid_consistent"]
    swapped = {number: Dataset() for number in results}
    for number, ds in swapped.items():
        ds.file_meta, ds.PatientID = results[number].file_meta, results[number].PatientID
    assert judge(key, swapped)[1] == []
    swapped[0].PatientID = "ANOTHER"
    assert {check.patient for check in judge(key, swapped)[1]} == {0}
    for number in range(8):
        swapped[number].PatientID = "BOTH"
    assert {check.patient for check in judge(key, swapped)[1]} == {0, 1}


def test_nobody_is_read_in_pixels_that_left_and_pictures_without_text_leave_untouched(tmp_path: Path) -> None:
    treat, finder = without_people(RESEARCH, SITE), TextFinder()
    key, legible = [], {}
    for number in range(3):
        ds, check = labelled(number, number)
        file = save(ds, tmp_path / f"{number}.dcm")
        assert len(finder.find(frames.decode(part10.read(file)).rgb[0])) > 0
        key.append(check)
        legible[number] = legible_after(treat, file, finder)
    assert judge(key, {}, legible) == ({"pixels_hidden": 3}, [])
    assert judge(key, {}, {0: 0, 1: 1})[1] == key[1:]
    plain = photograph(skin(), syntax=JPEGBaseline8Bit)
    left = part10.read(treat(save(plain, tmp_path / "plain.dcm"), ()).file)
    assert left.PixelData == plain.PixelData
