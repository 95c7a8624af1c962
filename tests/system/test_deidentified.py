"""The installed command with its real treatment: DCMTK sends, Orthanc receives, and nobody is in what it got."""

import re
import subprocess
import sys
from collections.abc import Collection, Iterator, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from photographs import Patient, photograph, save
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.multival import MultiValue
from pydicom.uid import (
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
    SecondaryCaptureImageStorage,
)
from system.peers import Gateway, find_program, gateway, orthanc, storescu, wait_until

from gateway.instance import State
from gateway.ledger import Ledger
from gateway.schema import Entry, sqlite_url
from inference.bundle import BundleError
from inference.local import load_models

pytestmark = [pytest.mark.system, pytest.mark.models]

ROOT = Path(__file__).resolve().parents[2]
MINUTES_S = 300.0
TELLING = frozenset({"AE", "LO", "LT", "PN", "SH", "ST", "UI", "UT"})
"""Value representations whose values say something by themselves; a date may be another object's, moved."""
OFFERS = {
    JPEGBaseline8Bit: "-xy",
    JPEG2000Lossless: "-xv",
    JPEG2000: "-xw",
    JPEGLSLossless: "-xt",
    JPEGLSNearLossless: "-xu",
    JPEGLosslessSV1: "-xs",
    RLELossless: "-xr",
    DeflatedExplicitVRLittleEndian: "-xd",
}
"""What DCMTK's ``storescu`` is told, to send an object as it is encoded; it offers plain encodings always."""


def sent(port: int, files: Sequence[Path]) -> None:
    """Send each file as it is encoded, with DCMTK's storescu."""
    for file in files:
        syntax = dcmread(file, stop_before_pixels=True).file_meta.TransferSyntaxUID
        offer = OFFERS.get(UID(syntax))
        result = storescu(port, [file], options=["-R", *([offer] if offer else [])])
        assert "Received Store Response (Success)" in result.stderr, (file.name, result.stderr)


def colour(shared: Path) -> dict[Path, Dataset]:
    """The colour files of the test data that may be sent: one for each SOP Instance UID."""
    found: dict[str, tuple[Path, Dataset]] = {}
    for file in sorted((shared / "data" / "dicom" / "syntaxes").iterdir()):
        ds = dcmread(file, force=True)
        wanted = ds.get("SOPClassUID") == SecondaryCaptureImageStorage and ds.get("SamplesPerPixel") == 3
        uids = [str(ds.get(word, "")) for word in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")]
        if wanted and all(uids):
            found.setdefault(uids[0], (file, ds))
    return dict(found.values())


def telling(ds: Dataset, rows: Collection[int]) -> Iterator[str]:
    """Original values, of more than five characters, of every attribute that the standard's table names."""
    for element in ds.iterall():
        if element.VR in TELLING and int(element.tag) in rows:
            values = element.value if isinstance(element.value, MultiValue) else [element.value]
            texts = (str(value).strip("^ \0") for value in values if value)
            yield from (text for text in texts if len(text) > 5)


def named_by_the_standard(shared: Path) -> set[int]:
    """Tags in PS3.15 Table E.1-1; rows of repeating groups are left out."""
    with (shared / "standards" / "ps3.15_table_e1-1_2026c.tsv").open(encoding="utf-8") as table:
        tags = re.findall(r"\(([0-9a-fA-F]{4}),([0-9a-fA-F]{4})\)", table.read())
    return {int(group + element, 16) for group, element in tags}


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
    for source, ds in colour(shared).items():
        (folder / source.name).write_bytes(source.read_bytes())
        originals.append(ds)
    assert len(originals) > 15
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
        sent(peer.port, sorted(folder.iterdir()))
        entries = settled(peer, len(originals))
        forwarded = [found for found in entries if found.state is State.FORWARDED]
        assert len(forwarded) >= len(originals) * 0.8, [
            (e.reason, e.detail) for e in entries if e not in forwarded
        ]
        assert sorted(archive.uids()) == sorted(str(found.pseudonym) for found in forwarded)
        files = archive.files()
        assert peer.stop() == 0
    rows = named_by_the_standard(shared)
    assert len(rows) > 500
    tokens = {value for ds in originals for value in telling(ds, rows)}
    assert len(tokens) > 4 * len(originals)
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
