"""What a review console is to export (docs/training.md, docs/evaluation.md) is read: the samples in tests/console."""

import csv
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from inference.cli import main
from inference.data import pairs
from inference.data.manifest import Photograph
from inference.evaluate.ratings import read_ratings

SAMPLES = Path(__file__).parents[1] / "console"


def test_preferences_of_the_console_can_be_checked_and_learnt_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = Path(shutil.copy(SAMPLES / "pairs.csv", tmp_path))
    (tmp_path / "pictures").mkdir()
    hide = np.zeros((32, 32), np.uint8)
    hide[8:24, 8:24] = 255
    with file.open(encoding="utf-8") as stream:
        named = {row[column] for row in csv.DictReader(stream) for column in ("winner", "loser", "hide")}
    for shade, name in enumerate(sorted(named)):
        picture = hide if name.endswith("hide.png") else np.where(hide > 0, 90 + shade, 128).astype(np.uint8)
        cv2.imwrite(str(tmp_path / name), picture)
    assert main(["data", "check", str(tmp_path)]) == 0
    assert "3 pairs\n0 to put right" in capsys.readouterr().out
    taught = pairs.read(tmp_path, "train")
    assert [(one.winner.name, one.loser.name) for one in taught] == [
        ("0001-b.png", "0001-a.png"),
        ("0001-b.png", "0001-c.png"),
    ]
    assert {one.prompt for one in taught} == {"clinical photograph of a face, psoriasis"}


def test_ratings_of_the_console_are_those_of_the_photographs_they_name() -> None:
    rows = [
        Photograph(Path(f"set/images/{patient}/front.jpg"), Path("mask.png"), "psoriasis", patient, "test")
        for patient in ("K7Q2", "M3ZD")
    ]
    rated = read_ratings(SAMPLES / "ratings.csv", ["anoskin", "masking"], rows)
    values = {method: one["clinical"].figures["clinical"].value for method, one in rated.items()}
    assert values == {"anoskin": pytest.approx(13 / 3), "masking": 1}
