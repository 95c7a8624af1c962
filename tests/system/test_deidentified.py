"""The installed command with its real treatment: DCMTK sends, Orthanc receives, and nobody is in what it got."""

import subprocess
import sys
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from photographs import Patient, photograph, save
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit, SecondaryCaptureImageStorage
from system.peers import DEADLINE_S, Gateway, find_program, gateway, orthanc, wait_until

from gateway.instance import State
from gateway.ledger import Ledger
from gateway.schema import Entry, sqlite_url
from inference.bundle import BundleError
from inference.local import load_models

pytestmark = [pytest.mark.system, pytest.mark.models]

ROOT = Path(__file__).resolve().parents[2]
MINUTES_S = 300.0
IDENTIFYING = ("PatientName", "PatientID", "PatientBirthDate", "AccessionNumber", "ReferringPhysicianName",
               "InstitutionName", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")  # fmt: skip


def dcmsend(port: int, files: Sequence[Path]) -> None:
    """Send each file as it is encoded, with DCMTK."""
    command = [find_program("dcmsend"), "-aet", "PACS", "-aec", "ANOSKIN", "127.0.0.1", str(port)]
    result = subprocess.run(
        [*command, *map(str, files)], capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    assert result.returncode == 0, result.stderr


def london(folder: Path, shared: Path, number: int) -> list[Dataset]:
    """Photographs of people, each an object with everything that identifies a patient."""
    made = []
    for index, file in enumerate(sorted((shared / "data" / "london" / "images").iterdir())[:number]):
        rgb = np.asarray(Image.open(file).convert("RGB"))
        patient = Patient(name=f"Zweifelsfrei{index}^Adelheid", number=f"PID-7731-Q{index}")
        syntax = JPEG2000Lossless if index % 2 else JPEGBaseline8Bit
        ds = photograph(rgb, patient=patient, syntax=syntax)
        save(ds, folder / f"london{index}.dcm")
        made.append(ds)
    return made


def settled(peer: Gateway, number: int) -> list[Entry]:
    """The ledger's rows, once nothing waits any more."""
    ledger = Ledger(sqlite_url(peer.folder / "state" / "ledger.sqlite"))
    done = (State.FORWARDED, State.HELD, State.REFUSED)
    try:
        wait_until(
            lambda: sum(ledger.counts()[state] for state in done) == number,
            "everything is settled",
            MINUTES_S,
        )
        return ledger.entries()
    finally:
        ledger.close()


@pytest.mark.filterwarnings("ignore")
def test_what_the_archive_gets_names_nobody(tmp_path: Path, shared: Path) -> None:
    try:
        load_models(ROOT / "bundles" / "nano", threads=1)
    except BundleError as error:
        pytest.skip(f"the nano bundle is not complete: {error}")
    folder = tmp_path / "sent"
    folder.mkdir()
    originals = london(folder, shared, 4)
    sources = sorted((shared / "data" / "dicom" / "syntaxes").glob("*SC_rgb*.dcm"))
    for source in sources:
        ds = dcmread(source)
        complete = all(
            ds.get(keyword) for keyword in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
        )
        known = any(ds.get("SOPInstanceUID") == other.SOPInstanceUID for other in originals)
        if ds.get("SOPClassUID") == SecondaryCaptureImageStorage and complete and not known:
            (folder / source.name).write_bytes(source.read_bytes())
            originals.append(ds)
    conf = {
        "profile": f'file = "{ROOT / "conf" / "profiles" / "basic.toml"}"',
        "models": f'bundle = "{ROOT / "bundles" / "nano"}"\nthreads = 1\nallow_demonstration_models = true',
    }
    entry = (sys.executable, "-m", "gateway.cli")
    with (
        orthanc(tmp_path / "orthanc") as archive,
        gateway(
            tmp_path / "gateway", archive.port, entry=entry, conf_text=conf, environ={"PYTHONWARNINGS": ""}
        ) as peer,
    ):
        dcmsend(peer.port, sorted(folder.iterdir()))
        entries = settled(peer, len(originals))
        forwarded = [found for found in entries if found.state is State.FORWARDED]
        assert len(forwarded) >= len(originals) * 0.8, [
            (e.reason, e.detail) for e in entries if e not in forwarded
        ]
        assert sorted(archive.uids()) == sorted(str(found.pseudonym) for found in forwarded)
        files = archive.files()
        assert peer.stop() == 0
    values = {str(ds.get(keyword, "")).strip("^ ") for ds in originals for keyword in IDENTIFYING}
    tokens = {value for value in values if len(value) > 5}
    dump = find_program("dcmdump")
    for number, file in enumerate(files):
        result = tmp_path / f"result{number}.dcm"
        result.write_bytes(file)
        shown = subprocess.run(
            [dump, "+L", "-M", str(result)], capture_output=True, timeout=60, check=True
        ).stdout
        text = shown.decode("utf-8", "replace")
        assert [token for token in tokens if token in text] == []
        clean = dcmread(BytesIO(file))
        assert clean.PatientIdentityRemoved == "YES"
        assert clean.pixel_array.size
    said = (peer.folder / "log.jsonl").read_text(encoding="utf-8")
    said += (peer.folder / "state" / "audit.jsonl").read_text(encoding="utf-8")
    assert [token for token in tokens if token in said] == []
