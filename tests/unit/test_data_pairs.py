"""Lists of preferences are read line by line; what is wrong in them is told by its row."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from inference.cli import main
from inference.data import DataError, pairs
from inference.data.pairs import Pair


def listed(folder: Path, count: int = 3) -> list[Pair]:
    """Pairs of grey squares, the darker one preferred, and their pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    hide = np.zeros((24, 24), np.uint8)
    hide[6:18, 6:18] = 255
    found = []
    for number in range(count):
        files = [folder / f"{number}-{name}.png" for name in ("winner", "loser", "hide")]
        for file, shade in zip(files, (60 + number, 90 + number, 255), strict=True):
            cv2.imwrite(str(file), hide if shade == 255 else np.where(hide > 0, shade, 128).astype(np.uint8))
        found.append(Pair(*files, "face", f"p{number}", "train" if number else "test"))
    return found


def told(data: Path) -> list[tuple[str, str]]:
    return [(one.where, one.what) for one in pairs.check(data)[1]]


def test_a_preference_that_is_told_twice_or_the_other_way_round_is_pointed_out(tmp_path: Path) -> None:
    first, second, third = listed(tmp_path)
    turned = replace(first, winner=first.loser, loser=first.winner)
    file = pairs.write(tmp_path / "pairs.csv", [first, second, turned, third, second])
    expected = [
        ("row 4", "row 2 prefers the other one of the same two; decide, and take one out"),
        ("row 6", "says what row 3 says already; take it out"),
    ]
    assert told(file) == expected
    with pytest.raises(DataError, match=r"row 4: row 2 prefers the other one of the same two.* \(1 more\)"):
        pairs.read(file)


def test_copies_of_pictures_do_not_hide_a_contradiction(tmp_path: Path) -> None:
    first, second = listed(tmp_path, 2)
    copies = [Path(shutil.copy(file, tmp_path / f"copy-{file.name}")) for file in (first.loser, first.winner)]
    turned = replace(first, winner=copies[0], loser=copies[1])
    file = pairs.write(tmp_path / "pairs.csv", [first, second, turned])
    assert told(file) == [("row 4", "row 2 prefers the other one of the same two; decide, and take one out")]
    shutil.copy(second.winner, second.loser)
    assert ("row 3", "winner and loser are the same picture") in told(file)


def test_a_broken_line_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    (pair,) = listed(tmp_path, 1)
    row = {"winner": pair.winner.name, "loser": pair.loser.name, "hide": pair.hide.name, "split": "test"}
    lines = [
        "",
        json.dumps(row | {"patient": 0, "prompt": "a\u2028b"}, ensure_ascii=False),
        json.dumps(row)[:-5],
        "[]",
        json.dumps(row),
        json.dumps(row | {"patient": ["p"]}),
        json.dumps(row | {"patient": "p", "split": "dev"}),
    ]
    file = tmp_path / "pairs.jsonl"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8-sig")
    found = told(file)
    assert [where for where, _ in found] == ["row 3", "row 4", "row 5", "row 6", "row 7"]
    for (_, what), expected in zip(
        found,
        ("no JSON object (", "no JSON object", "nothing under patient", "patient must be", "the split 'dev'"),
        strict=True,
    ):
        assert what.startswith(expected)
    read = pairs.parse(file)[0]
    assert [(one.patient, one.prompt, one.row) for one in read] == [("0", "a\u2028b", 2)]


@pytest.mark.parametrize("name", ["pairs.csv", "mine.csv", "."])
def test_check_knows_pairs_by_their_columns(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs.write(tmp_path / ("pairs.csv" if name == "." else name), listed(tmp_path))
    assert main(["data", "check", str(tmp_path / name)]) == 0
    assert "3 pairs\n0 to put right" in capsys.readouterr().out
