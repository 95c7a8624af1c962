"""The crosswalk: it tells originals to those who hold its key, and to nobody else."""

import json
import sqlite3
from pathlib import Path

import pytest
from photographs import Patient, photograph, save, skin

from gateway import cli, settings, treatment
from gateway.audit import Trail
from gateway.crosswalk import Broken, Crosswalk, Original, Recorder
from gateway.errors import Held
from gateway.profiles import Profile
from gateway.pseudonym import Pseudonyms
from gateway.schema import sqlite_url
from gateway.scrub import scrub

KEY, OTHER = bytes(range(32)), bytes(range(1, 33))
SITE = Pseudonyms(b"a key for tests, 32 bytes or more")


@pytest.fixture
def url(tmp_path: Path) -> str:
    return sqlite_url(tmp_path / "crosswalk.sqlite")


@pytest.fixture
def configured(tmp_path: Path) -> Path:
    """A configuration whose crosswalk is enabled, initialised."""
    file = tmp_path / "gateway.toml"
    file.write_text(
        f"""
        [ledger]
        folder = "{tmp_path}/state"
        [spool]
        folder = "{tmp_path}/state/spool"
        [pseudonyms]
        key_file = "{tmp_path}/state/pseudonym.key"
        [crosswalk]
        enabled = true
        key_file = "{tmp_path}/state/crosswalk.key"
        [profile]
        file = "{Path(__file__).parents[2]}/conf/profiles/basic.toml"
        """
    )
    assert cli.main(["init", "--conf", str(file)]) == 0
    return file


def test_every_pseudonym_of_an_object_leads_back_to_its_original(tmp_path: Path, url: str) -> None:
    ds = photograph(skin())
    crosswalk = Crosswalk(url, KEY)
    Recorder(crosswalk, SITE, "HOUSE")(save(ds, tmp_path / "original.dcm"))
    clean = scrub(ds, Profile(issuer="HOUSE"), SITE)
    patient = Patient()
    for pseudonym, original in (
        (clean.PatientID, Original("patient", patient.number, "HOUSE", patient.name)),
        (clean.AccessionNumber, Original("accession", patient.accession, "HOUSE")),
        (clean.StudyID, Original("study id", ds.StudyID)),
        (clean.StudyInstanceUID, Original("study", ds.StudyInstanceUID)),
        (clean.SeriesInstanceUID, Original("series", ds.SeriesInstanceUID)),
        (clean.SOPInstanceUID, Original("instance", ds.SOPInstanceUID)),
    ):
        assert crosswalk.look_up(pseudonym) == original
    assert crosswalk.look_up("NOBODY") is None
    crosswalk.close()


def test_nothing_is_legible_without_the_key(tmp_path: Path, url: str) -> None:
    ds = photograph(skin())
    crosswalk = Crosswalk(url, KEY)
    Recorder(crosswalk, SITE, "")(save(ds, tmp_path / "original.dcm"))
    crosswalk.close()
    content = b"".join(file.read_bytes() for file in tmp_path.glob("crosswalk.sqlite*"))
    patient = Patient()
    for value in (*patient.name.split("^"), patient.number, patient.accession, ds.StudyInstanceUID):
        assert value.encode() not in content
    thief = Crosswalk(url, OTHER)
    with pytest.raises(Broken):
        thief.look_up(SITE.identifier(patient.number))
    thief.close()


def test_an_entry_cannot_be_put_under_another_pseudonym(tmp_path: Path, url: str) -> None:
    crosswalk = Crosswalk(url, KEY)
    crosswalk.note({"AAAA": Original("patient", "1"), "BBBB": Original("patient", "2")}, "K")
    with sqlite3.connect(tmp_path / "crosswalk.sqlite") as database:
        database.execute(
            "update crosswalk set (nonce, sealed) = (select nonce, sealed from crosswalk where pseudonym = 'AAAA')"
        )
    database.close()
    assert crosswalk.look_up("AAAA") == Original("patient", "1")
    with pytest.raises(Held, match="crosswalk"):
        crosswalk.look_up("BBBB")
    crosswalk.close()


def test_a_repeat_changes_nothing(tmp_path: Path, url: str) -> None:
    file = save(photograph(skin()), tmp_path / "original.dcm")
    crosswalk = Crosswalk(url, KEY)
    for _ in range(2):
        Recorder(crosswalk, SITE, "")(file)
    crosswalk.close()
    with sqlite3.connect(tmp_path / "crosswalk.sqlite") as database:
        rows = database.execute("select pseudonym, key_name, nonce from crosswalk").fetchall()
    database.close()
    assert len(rows) == 6
    assert {row[1] for row in rows} == {SITE.key_name}
    assert len({row[2] for row in rows}) == 6


def test_what_was_treated_can_be_looked_up_and_the_trail_says_who_asked(
    tmp_path: Path, configured: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    original = save(photograph(skin()), tmp_path / "original.dcm")
    conf = settings.load(configured)
    cleared = treatment.build_metadata_only(conf)(original)
    capsys.readouterr()
    assert cli.main(["lookup", "--conf", str(configured), cleared.sop_instance]) == 0
    assert json.loads(capsys.readouterr().out)["kind"] == "instance"
    assert cli.main(["lookup", "--conf", str(configured), "AAAAAAAAAAAAAAAA"]) == 1
    lines = (conf.ledger.folder / "audit.jsonl").read_text().splitlines()
    events = [(record["event"], record["facts"]) for record in map(json.loads, lines)]
    assert events == [
        ("crosswalk.asked", {"pseudonym": cleared.sop_instance}),
        ("crosswalk.answered", {"pseudonym": cleared.sop_instance, "found": True}),
        ("crosswalk.asked", {"pseudonym": "AAAAAAAAAAAAAAAA"}),
        ("crosswalk.answered", {"pseudonym": "AAAAAAAAAAAAAAAA", "found": False}),
    ]
    assert Trail(conf.ledger.folder / "audit.jsonl").verify().seq == 4


def test_without_a_trail_nothing_is_told(
    tmp_path: Path, configured: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    conf = settings.load(configured)
    cleared = treatment.build_metadata_only(conf)(save(photograph(skin()), tmp_path / "original.dcm"))
    (conf.ledger.folder / "audit.jsonl").mkdir()
    capsys.readouterr()
    assert cli.main(["lookup", "--conf", str(configured), cleared.sop_instance]) == 1
    assert capsys.readouterr().out == ""


def test_what_is_no_pseudonym_is_not_asked_for_and_not_noted(
    configured: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["lookup", "--conf", str(configured), "Zweifelsfrei^Adelheid"]) == 2
    assert "Zweifelsfrei" not in capsys.readouterr().err
    assert not (settings.load(configured).ledger.folder / "audit.jsonl").exists()


def test_where_there_is_no_crosswalk_it_says_so(
    tmp_path: Path, configured: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    configured.write_text(configured.read_text().replace("enabled = true", "enabled = false"))
    assert cli.main(["lookup", "--conf", str(configured), "AAAAAAAAAAAAAAAA"]) == 2
    assert "enabled is false" in capsys.readouterr().err
