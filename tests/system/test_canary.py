"""A token in every attribute goes in; the archive, the log, the audit trail and the ledger tell none of them."""

import json
import sqlite3
import sys
from pathlib import Path

import pytest
from canary import SCRIPTS, Tokens, canary
from photographs import companion, photograph, save, skin
from pydicom.uid import ComprehensiveSRStorage
from system.peers import gateway, orthanc, storescu, wait_until

from gateway import part10
from gateway.needles import walk

pytestmark = pytest.mark.system

ROOT = Path(__file__).resolve().parents[2]
ENTRY = (sys.executable, str(ROOT / "tests" / "system" / "metadata_only.py"))


def objects(folder: Path) -> tuple[list[Path], list[Tokens]]:
    """One object in each character set, one that is held because it says that its pixels identify, and a report."""
    folder.mkdir()
    files, every = [], []
    for number, (character_set, script) in enumerate([*SCRIPTS.items(), ("ISO_IR 192", "")]):
        ds = photograph(skin(seed=number))
        every.append(canary(ds, script, number))
        ds.SpecificCharacterSet = character_set.split("\\")
        if not script:
            ds.RecognizableVisualFeatures = "YES"
        with part10.quiet():
            files.append(save(ds, folder / f"{number}.dcm"))
    report = companion(ComprehensiveSRStorage)
    every.append(canary(report, serial=len(files)))
    report.SpecificCharacterSet = "ISO_IR 192"
    with part10.quiet():
        files.append(save(report, folder / "report.dcm"))
    return files, every


def test_no_token_reaches_archive_log_trail_or_ledger(tmp_path: Path) -> None:
    files, every = objects(tmp_path / "in")
    words = {token for tokens in every for token in tokens.texts}
    uids = {token for tokens in every for token in tokens.uids}
    # Shorter numbers stand in every log, as parts of others.
    texts = words | {
        token for tokens in every for token in (*tokens.dates, *tokens.numbers) if len(token) >= 8
    }
    profiles = f'file = "{ROOT / "conf" / "profiles" / "basic.toml"}"'
    with (
        orthanc(tmp_path / "orthanc") as archive,
        gateway(tmp_path / "gateway", archive.port, entry=ENTRY, conf_text={"profile": profiles}) as peer,
    ):
        assert storescu(peer.port, files, options=["-R"]).returncode == 0
        wait_until(lambda: len(archive.uids()) == len(files) - 2, "all but two are forwarded")
        wait_until(lambda: peer.counts()["held"] == peer.counts()["refused"] == 1, "one is held, one refused")
        told = "".join(
            peer.run(*words).stdout
            for words in (["status"], ["held"], ["held", "--json"], ["audit", "verify"])
        )
        results = archive.files()
        peer.stop()
    for result in results:
        found = "\n".join(
            value for element in walk(part10.read(result)) for value in element.values
        ).casefold()
        assert [token for token in words | uids if token.casefold() in found] == []
        assert [token for token in words | uids if token.encode() in result] == []
    state = tmp_path / "gateway" / "state"
    for name in (tmp_path / "gateway" / "log.jsonl", state / "audit.jsonl"):
        told += name.read_text(encoding="utf-8") + json.dumps(
            [json.loads(line) for line in name.read_text(encoding="utf-8").splitlines()], ensure_ascii=False
        )
    assert len(told) > 2000
    assert [token for token in texts | uids if token in told] == []
    with sqlite3.connect(state / "ledger.sqlite") as database:
        history = repr(database.execute("select * from history").fetchall())
        said = repr(
            database.execute("select reason, detail, pseudonym, evidence, peer from instances").fetchall()
        )
        everything = repr(
            [database.execute(f"select * from {t}").fetchall() for t in ("instances", "arrivals")]
        )
    database.close()
    assert history.count("forwarded") == len(files) - 2
    assert [token for token in texts | uids if token in history + said] == []
    # The ledger holds the original UIDs of instance, study and series, and nothing else of an original.
    assert [token for token in texts if token in everything] == []
    assert len([token for token in uids if token in everything]) <= 3 * len(files)
