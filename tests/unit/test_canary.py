"""One object that holds a token in every attribute: where none may pass none does, where one may it does."""

import shutil
import subprocess
from datetime import date
from functools import cache
from io import BytesIO
from pathlib import Path

import pytest
from canary import OBJECT, SCRIPTS, Tokens, canary, everything
from photographs import photograph, skin
from pydicom import Dataset
from pydicom.uid import DermoscopicPhotographyImageStorage, ImplicitVRLittleEndian

from gateway import frames, part10
from gateway.identities import Patient
from gateway.mark import mark, markers
from gateway.needles import walk
from gateway.profile_files import load
from gateway.profiles import Action, Option, Profile
from gateway.pseudonym import Pseudonyms
from gateway.residue import residue
from gateway.scrub import scrub

SITE = Pseudonyms(b"a key for tests, 32 bytes or more")
SHIPPED = [load(file) for file in sorted((Path(__file__).parents[2] / "conf" / "profiles").glob("*.toml"))]
EVERYTHING = Profile(name="everything", options=frozenset(Option) - {Option.MODIFIED_DATES})
PYTHON = {"ISO_IR 192": "utf-8", "ISO_IR 100": "latin-1", "ISO_IR 144": "iso8859_5", "ISO_IR 127": "iso8859_6",
          "\\ISO 2022 IR 149": "euc_kr", "\\ISO 2022 IR 87": "iso2022_jp"}  # fmt: skip


def filled(character_set: str, sop_class: str = DermoscopicPhotographyImageStorage) -> tuple[Dataset, Tokens]:
    ds = photograph(skin(), sop_class=sop_class)
    tokens = canary(ds, SCRIPTS[character_set])
    ds.SpecificCharacterSet = character_set.split("\\")
    buffer = BytesIO()
    with part10.quiet():
        ds.save_as(buffer, enforce_file_format=True)
    return part10.read(buffer.getvalue()), tokens


@cache
def whole(character_set: str) -> tuple[Dataset, Tokens]:
    """An object with every attribute of PS3.6."""
    ds = photograph(skin())
    tokens = Tokens(SCRIPTS[character_set])
    for element in everything(tokens):
        ds.add(element)
    ds.SpecificCharacterSet = character_set.split("\\")
    buffer = BytesIO()
    with part10.quiet():
        ds.save_as(buffer, enforce_file_format=True)
    return part10.read(buffer.getvalue()), tokens


def treated(original: Dataset, profile: Profile) -> bytes:
    clean = scrub(original, profile, SITE)
    frames.carry(clean)
    mark(clean, profile, pixels_clean=False, features_clean=False, edited=False)
    file = part10.write(clean)
    assert markers(part10.read(file), profile, edited=False, seen=False) == []
    return file


def left_in(file: bytes, tokens: Tokens, character_set: str) -> set[str]:
    """The tokens in a file: in its bytes in two encodings and any case, and in its decoded texts."""
    lower = file.lower()
    texts = "\n".join(value for element in walk(part10.read(file)) for value in element.values).casefold()
    found = {token for token in (*tokens.texts, *tokens.uids) if token.casefold() in texts}
    for token in (*tokens.texts, *tokens.uids):
        coded = token.encode(PYTHON[character_set]).replace(b"\x1b$B", b"").replace(b"\x1b(B", b"")
        # Lower case, because ASCII tokens may have changed theirs; other letters' bytes are lowered on both sides.
        if token.lower().encode() in lower or coded.lower() in lower:
            found.add(token)
    return found


def numbers_in(file: bytes) -> set[str]:
    """Every number in a file as a token writes it: whole numbers, ages, and the fractions of times."""
    found = set()
    for element in part10.read(file).iterall():
        several = [] if element.is_empty else element.value if element.VM > 1 else [element.value]
        for value in several:
            if element.VR in {"IS", "DS", "UL", "SL", "UV", "SV", "FL", "FD", "US", "SS"}:
                found.add(str(int(value)))
            elif element.VR in {"TM", "AS"}:
                found.add(str(value).partition(".")[2] if element.VR == "TM" else str(value))
    return found


def passed(file: bytes, tokens: Tokens, character_set: str, profile: Profile) -> set[str]:
    """The attributes whose tokens are in a file although the profile does not say that they stay."""
    stays = {Action.KEEP}
    left = left_in(file, tokens, character_set)
    numbers = numbers_in(file) & set(tokens.numbers)
    days = {v[:8] for e in walk(part10.read(file)) if e.vr in {"DA", "DT"} for v in e.values}
    dated = set() if profile.moves_dates else days & set(tokens.dates)  # moved ones may meet each other
    return {
        f"{tokens.owner[token]:08x}"
        for several, allowed in ((left | dated, stays), (numbers, stays | {Action.CLEAN}))
        for token in several
        if profile.resolved(tokens.owner[token], DermoscopicPhotographyImageStorage)[1] not in allowed
    }


@pytest.mark.parametrize("character_set", SCRIPTS)
@pytest.mark.parametrize("profile", [*SHIPPED, EVERYTHING], ids=lambda profile: profile.name)
def test_no_token_passes_but_those_the_profile_keeps(profile: Profile, character_set: str) -> None:
    original, tokens = filled(character_set)
    file = treated(original, profile)
    assert passed(file, tokens, character_set, profile) == set()
    assert residue(original, file, profile) == []


CODES = {"0040a010", "0040a040", "0040a050", "00700005", "00700023", "00700024"}
"""Of content and graphics that are cleaned: codes of the standard, not words that somebody chose."""


@pytest.mark.parametrize("character_set", ["ISO_IR 192"])
@pytest.mark.parametrize("profile", [*SHIPPED, EVERYTHING], ids=lambda profile: profile.name)
def test_no_token_passes_of_any_attribute_there_is(profile: Profile, character_set: str) -> None:
    original, tokens = whole(character_set)
    file = treated(original, profile)
    assert passed(file, tokens, character_set, profile) <= CODES
    assert residue(original, file, profile) == []


def test_any_attribute_there_is_is_in_that_object() -> None:
    original, tokens = whole("ISO_IR 192")
    assert len(original) > 4500
    assert len(tokens.texts) > 6000
    assert len(tokens.numbers) > 4000
    assert len({tag >> 16 for tag in original.keys()}) > 60  # noqa: SIM118
    assert original.keys() >= OBJECT


@pytest.mark.parametrize("character_set", ["ISO_IR 192", "\\ISO 2022 IR 87"])
@pytest.mark.parametrize("profile", [*SHIPPED, EVERYTHING], ids=lambda profile: profile.name)
def test_what_the_profile_keeps_is_there_as_it_was(profile: Profile, character_set: str) -> None:
    original, _ = filled(character_set)
    clean = part10.read(treated(original, profile))
    kept = 0
    for element in walk(original):
        if (
            len(element.path) > 1
            or profile.resolved(element.tag, DermoscopicPhotographyImageStorage)[1] is not Action.KEEP
        ):
            continue
        if element.tag in {0x00080005, 0x7FE00010}:
            continue
        with part10.quiet():
            assert clean[element.tag].value == original[element.tag].value, f"{element.tag:08x}"
        kept += 1
    assert kept > 5 + 20 * len(profile.options & {Option.UIDS, Option.DEVICE})


def test_days_move_together_where_they_move_and_stay_where_they_stay() -> None:
    original, _ = filled("ISO_IR 192")
    before = {e.path: e.values for e in walk(original) if e.vr in {"DA", "DT"} and e.values}
    days = Patient.of(original).shift_days(SITE)
    moved = part10.read(treated(original, Profile()))
    differences = [
        date.fromisoformat(e.values[0][:8]) - date.fromisoformat(before[e.path][0][:8])
        for e in walk(moved)
        if e.path in before and e.values
    ]
    assert len(differences) > 50
    assert {difference.days for difference in differences} == {days}
    stayed = part10.read(treated(original, EVERYTHING))
    assert sum(e.values == before.get(e.path) for e in walk(stayed) if e.vr in {"DA", "DT"}) > 50


def test_the_tokens_stand_in_every_row_of_the_table_and_at_four_levels() -> None:
    original, tokens = filled("ISO_IR 192")
    seen = list(walk(original))
    assert {len(e.path) for e in seen} >= {1, 3, 5, 7, 9}
    assert len(tokens.texts) + len(tokens.uids) + len(tokens.dates) > 1200
    assert sum(e.tag >> 16 & 1 for e in seen) > 5
    assert {e.tag >> 24 for e in seen} >= {0x50, 0x60}


def test_implicit_encoding_hides_nothing() -> None:
    ds = photograph(skin(), syntax=ImplicitVRLittleEndian)
    tokens = canary(ds)
    buffer = BytesIO()
    with part10.quiet():
        ds.save_as(buffer, enforce_file_format=True)
    original = part10.read(buffer.getvalue())
    for profile in (Profile(), EVERYTHING):
        file = treated(original, profile)
        left = left_in(file, tokens, "ISO_IR 192")
        assert all(profile.resolved(tokens.owner[t], original.SOPClassUID)[1] is Action.KEEP for t in left)


@pytest.mark.parametrize("profile", [*SHIPPED, EVERYTHING], ids=lambda profile: profile.name)
def test_no_profile_makes_an_error_that_was_not_there(profile: Profile, tmp_path: Path) -> None:
    program = shutil.which("dciodvfy")
    if program is None:
        pytest.skip("dciodvfy (dicom3tools) is not installed")
    original, _ = filled("ISO_IR 192")
    errors = []
    for name, file in (("before", part10.write(original)), ("after", treated(original, profile))):
        (tmp_path / name).write_bytes(file)
        said = subprocess.run(
            [program, str(tmp_path / name)], capture_output=True, timeout=60, check=False
        ).stderr
        errors.append(
            {line for line in said.decode("utf-8", "replace").splitlines() if line.startswith("Error")}
        )
    # With Retain Institution Identity the table keeps the committee's name and removes the number it may stand beside.
    beside = (
        "ClinicalTrialProtocolEthicsCommitteeName" if Option.INSTITUTION in profile.options else "nothing"
    )
    assert {line for line in errors[1] - errors[0] if beside not in line} == set()
    assert len(errors[0]) > 50  # it did look
