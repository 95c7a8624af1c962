"""Pseudonyms: keyed, pure, and valid wherever DICOM puts them."""

import re
import subprocess
import sys
from datetime import date, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import UID

from gateway.errors import Misconfigured
from gateway.pseudonym import (
    MAX_SHIFT_DAYS,
    Pseudonyms,
    is_pseudonym,
    keep_time,
    normal_name,
    shift_date,
    shift_datetime,
)

KEY = bytes(range(32))
SITE = Pseudonyms(KEY)
OTHER = Pseudonyms(bytes(32))
texts = st.text(min_size=1, max_size=64)
relaxed = settings(deadline=None, max_examples=60)  # a loaded machine is no defect
days = st.integers(-MAX_SHIFT_DAYS, MAX_SHIFT_DAYS)
dates = st.dates(date(1880, 1, 1), date(2100, 12, 31))


@pytest.mark.parametrize("length", [0, 16, 31])
def test_a_short_key_is_refused(length: int) -> None:
    with pytest.raises(Misconfigured):
        Pseudonyms(bytes(length))


def test_the_key_is_not_shown() -> None:
    assert KEY.hex() not in repr(SITE)
    assert repr(KEY) not in repr(SITE)


@relaxed
@given(texts)
def test_every_uid_is_valid_and_a_version_8_uuid(original: str) -> None:
    uid = UID(SITE.uid(original))
    assert uid.is_valid
    assert len(uid) <= 64
    number = int(uid.removeprefix("2.25."))
    assert number < 2**128
    assert number >> 76 & 0xF == 8
    assert number >> 62 & 0b11 == 0b10


@relaxed
@given(texts, texts)
def test_two_uids_share_a_pseudonym_only_if_they_are_one(a: str, b: str) -> None:
    assert (SITE.uid(a) == SITE.uid(b)) == (a.strip(" \0") == b.strip(" \0"))


def test_padding_makes_no_other_uid() -> None:
    assert SITE.uid("1.2.3\0") == SITE.uid("1.2.3") == SITE.uid("1.2.3 ")


@relaxed
@given(texts)
def test_another_key_gives_other_pseudonyms(original: str) -> None:
    assert SITE.uid(original) != OTHER.uid(original)
    assert SITE.identifier(original) != OTHER.identifier(original)


@relaxed
@given(texts, texts)
def test_identifiers_fit_every_text_vr(value: str, issuer: str) -> None:
    assert re.fullmatch(r"[A-Z2-7]{16}", SITE.identifier(value, issuer))


def test_issuer_kind_and_value_are_kept_apart() -> None:
    found = {SITE.identifier("ab", "c"), SITE.identifier("a", "bc"), SITE.identifier("ab", "c", "study")}
    assert len(found) == 3


def test_a_name_with_empty_trailing_parts_is_the_same_person() -> None:
    spellings = [
        "Doe^Jane",
        "Doe^Jane^",
        "DOE^JANE^^",
        " doe^ jane ",
        "Doe^Jane=",
        "Doe^Jane^==",
        "Doe^Jane\0",
    ]
    assert len({SITE.identifier(name, kind="person") for name in spellings}) == 1
    assert normal_name("Doe^Jane") != normal_name("Doe^Janet")
    assert normal_name("Doe^Jane") != normal_name("Doe^^Jane")


@relaxed
@given(texts, texts)
def test_a_shift_is_never_zero_and_never_out_of_range(patient: str, issuer: str) -> None:
    shift = SITE.date_shift_days(patient, issuer)
    assert 1 <= abs(shift) <= MAX_SHIFT_DAYS


def test_shifts_reach_both_directions_and_differ_between_patients() -> None:
    shifts = [SITE.date_shift_days(f"patient {n}") for n in range(500)]
    assert min(shifts) < -MAX_SHIFT_DAYS // 2
    assert max(shifts) > MAX_SHIFT_DAYS // 2
    assert len(set(shifts)) > 400


def test_another_process_gives_the_same_pseudonyms() -> None:
    program = (
        "from gateway.pseudonym import Pseudonyms as P; p = P(bytes(range(32)));"
        "print(p.uid('1.2.3'), p.identifier('4711', 'KS'), p.date_shift_days('4711', 'KS'))"
    )
    printed = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONHASHSEED": "7"},
    ).stdout.split()
    assert printed == [
        SITE.uid("1.2.3"),
        SITE.identifier("4711", "KS"),
        str(SITE.date_shift_days("4711", "KS")),
    ]


@relaxed
@given(dates, dates, days)
def test_intervals_between_dates_stay_true(first: date, second: date, shift: int) -> None:
    a, b = (shift_date(f"{d:%Y%m%d}", shift) for d in (first, second))
    assert a is not None
    assert b is not None
    assert date.fromisoformat(b) - date.fromisoformat(a) == second - first
    assert date.fromisoformat(a) - first == timedelta(days=shift)


@relaxed
@given(dates, days, st.sampled_from(["", "12", "1230", "123059", "123059.5", "123059.123456"]),
       st.sampled_from(["", "+0200", "-1130", "+0000"]))  # fmt: skip
def test_a_datetime_keeps_time_fraction_and_zone(day: date, shift: int, clock: str, zone: str) -> None:
    moved = shift_datetime(f"{day:%Y%m%d}{clock}{zone}", shift)
    assert moved == f"{day + timedelta(days=shift):%Y%m%d}{clock}{zone}"


@pytest.mark.parametrize(
    ("value", "moved"), [("2020", "2021"), ("202006", "202106"), ("2020+0100", "2021+0100")]
)
def test_a_datetime_keeps_its_precision(value: str, moved: str) -> None:
    assert shift_datetime(value, 365) == moved


def test_old_separators_are_understood() -> None:
    assert shift_date("2020.02.28", 2) == "20200301"


@pytest.mark.parametrize(
    "value", ["", "2020", "20201301", "99999999", "20200230", "2020.0101", "abc", "2020-01.01"]
)
def test_what_is_no_date_is_not_moved(value: str) -> None:
    assert shift_date(value, 1) is None


@pytest.mark.parametrize("value", ["", "20", "20201301", "20200101999999", "2020010112.5", "2020010112+2"])
def test_what_is_no_datetime_is_not_moved(value: str) -> None:
    assert shift_datetime(value, 1) is None


def test_a_date_that_would_leave_the_calendar_is_not_moved() -> None:
    assert shift_date("99991231", 1) is None
    assert shift_date("00010101", -1) is None


@pytest.mark.parametrize("value", ["12", "1230", "123059", "123059.123456", "12:30:59", "235960"])
def test_times_of_day_stay(value: str) -> None:
    assert keep_time(value) == value


@pytest.mark.parametrize("value", ["", "24", "300000", "12h30", "SMITH"])
def test_what_is_no_time_does_not_stay(value: str) -> None:
    assert keep_time(value) is None


def test_a_key_has_a_name_that_tells_it_from_others_and_nothing_else() -> None:
    keys = [bytes([n]) * 32 for n in range(50)]
    names = {Pseudonyms(key).key_name for key in keys}
    assert len(names) == len(keys)
    assert all(len(name) == 8 and name.isalnum() and name.isupper() for name in names)
    assert Pseudonyms(bytes(32)).key_name == "66SMHAJR"


@pytest.mark.parametrize("text", ["Zweifelsfrei^Adelheid", "MRN73110", "1.2.3", "2.25.", "", "ABCDEFGH"])
def test_an_original_is_no_pseudonym(text: str) -> None:
    assert not is_pseudonym(text)
    assert is_pseudonym(Pseudonyms(bytes(32)).identifier(text))
    assert is_pseudonym(Pseudonyms(bytes(32)).uid(text))


def test_the_same_key_gives_the_same_pseudonyms_in_every_year() -> None:
    """These values may never change: whoever changes them cuts every archive in two."""
    site = Pseudonyms(bytes(range(32)))
    assert site.uid("1.2.840.113619.2.1") == "2.25.541123485688357889226525201751523184"
    assert site.identifier("MRN73110", "HOSPITAL") == "P3QBF4NVL4SDRUOM"
    assert site.identifier("A55102", "HOSPITAL", "accession") == "NEOUJDRLONDLMNWV"
    assert site.identifier("Zweifelsfrei^Adelheid^^", kind="person") == "EZVFIIKVAK2HPDA5"
    assert site.date_shift_days("MRN73110", "HOSPITAL") == 3268
    assert site.key_name == "KJGHKI5Y"
