"""The shipped face pack on real faces."""

import json
from pathlib import Path

import pytest

from inference.faces import measure, portraits
from inference.faces.analyser import InsightFaceAnalyser

PACK = Path(__file__).resolve().parents[2] / "bundles" / "nano" / "faces"

pytestmark = pytest.mark.models


@pytest.fixture(scope="module")
def london(shared: Path) -> list[portraits.Portrait]:
    """Twenty persons, neutral and smiling."""
    names = portraits.names_in(shared / "data" / "london")
    return portraits.read(shared / "data" / "london", names=frozenset(names[:40]))


def test_the_shipped_pack_finds_the_faces_of_london_and_tells_them_apart(
    london: list[portraits.Portrait],
) -> None:
    analyser = InsightFaceAnalyser(PACK)
    found = measure.detection(analyser, london)
    assert found.recall >= 0.97
    assert found.false_positives <= 0.2
    assert found.landmark_error <= 0.13
    assert measure.recognition(analyser, london).eer <= 0.15


def test_the_shipped_pack_is_small_and_says_what_it_was_calibrated_to() -> None:
    assert sum(each.stat().st_size for each in PACK.glob("*.onnx")) <= 6_000_000
    calibration = json.loads((PACK / "calibration.json").read_text(encoding="utf-8"))
    assert calibration["eer"] <= 0.15
    rates = [point["false_accept_rate"] for point in calibration["points"]]
    assert rates == [1e-2, 1e-3, 1e-4]
    assert (PACK / "FIGURES.md").exists()
