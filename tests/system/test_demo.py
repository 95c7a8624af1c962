"""``gateway demo`` as an operator runs it, with the bundle of this repository."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image as Pictures
from pydicom import dcmread

pytestmark = [pytest.mark.system, pytest.mark.models]

KEYS = ["name", "expected", "state", "reason", "similarity", "kept_pixels_identical", "seconds"]
LIMIT_S = 1500
"""Five times what it may take on two idle cores."""


def test_the_demonstration_ends_well_and_leaves_what_it_promises(tmp_path: Path) -> None:
    out = tmp_path / "out"
    environ = {name: value for name, value in os.environ.items() if not name.startswith("ANOSKIN_")}
    command = [sys.executable, "-m", "gateway.cli", "demo", "--out", str(out)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=LIMIT_S, check=False, env=environ, cwd=tmp_path
    )
    assert done.returncode == 0, done.stdout + done.stderr

    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert all(list(entry) == KEYS for entry in report)
    assert all(entry["state"] == entry["expected"] for entry in report)
    held = {entry["reason"] for entry in report if entry["state"] == "held"}
    assert held == {"text", "lesion-over-feature", "similarity"}
    forwarded = [entry for entry in report if entry["state"] == "forwarded"]
    assert all(entry["kept_pixels_identical"] is True for entry in forwarded)

    files = sorted((out / "archive").glob("*.dcm"))
    assert len(files) == len(forwarded)
    for file in files:
        ds = dcmread(file)
        assert ds.PatientIdentityRemoved == "YES"
        assert ds.RecognizableVisualFeatures == "NO"
        assert file.stem == ds.SOPInstanceUID == ds.file_meta.MediaStorageSOPInstanceUID
    with Pictures.open(out / "sheet.png") as image:
        assert image.width >= 1500
