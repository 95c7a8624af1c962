"""Lists of preferences are read line by line; what is wrong in them is told by its row."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from inference.cli import main
from inference.contract import Image, Models
from inference.data import DataError, manifest, pairs, scorer
from inference.data.manifest import Photograph
from inference.data.pairs import Pair
from inference.data.scorer import Rivals, Score


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


NOBODY = Models("nobody", True, *(None,) * 3, {}, (), 0.5, {"": "a face"})


def photographs(folder: Path, split: str) -> list[Photograph]:
    """Two grey squares under one file name in two folders."""
    rows = []
    for name, shade in (("a", 50), ("b", 200)):
        (folder / name).mkdir(parents=True)
        row = Photograph(folder / name / "front.png", folder / name / "mask.png", "acne", name, split)
        cv2.imwrite(str(row.image), np.full((24, 24, 3), shade, np.uint8))
        cv2.imwrite(str(row.mask), np.ones((24, 24), np.uint8))
        rows.append(row)
    manifest.write(folder, rows)
    return manifest.read(folder)


def repainted(image: Image, _models: Models, _prompt: str, seeds: Sequence[int]) -> Rivals:
    """The photograph with a square in it for each seed, the later the lighter and the worse."""
    hide = np.zeros(image.shape[:2], bool)
    hide[6:18, 6:18] = True
    paintings = [np.where(hide[..., None], 90 + place, image).astype(np.uint8) for place in range(len(seeds))]
    return Rivals(paintings, hide, [Score(place, 0.5, 0.5) for place in range(len(seeds))])


def test_photographs_of_one_file_name_get_pairs_of_their_own_and_none_are_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scorer, "rivals", repainted)
    rows, out = photographs(tmp_path / "site", "train"), tmp_path / "out"
    made = scorer.make_pairs(rows, NOBODY, out, seeds=3, seed=1)
    assert pairs.check(out) == (made, [])
    for pair, patient, shade in zip(pairs.read(out, "train"), "ab", (50, 200), strict=True):
        winner, loser, hide = pair.read()
        assert pair.patient == patient
        assert [np.unique(one).tolist() for one in (winner[~hide], winner[hide], loser[hide])] == [
            [shade],
            [90],
            [92],
        ]
    (out / "pairs.csv").unlink()
    with pytest.raises(DataError, match="pairs is there already and is not replaced"):
        scorer.make_pairs(rows, NOBODY, out, seeds=3, seed=1)


def test_pairs_that_could_not_be_used_are_not_painted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scorer, "rivals", repainted)
    rows, out = photographs(tmp_path / "site", ""), tmp_path / "out"
    with pytest.raises(DataError, match="2 of 2 photographs have no split"):
        scorer.make_pairs(rows, NOBODY, out, seeds=2, seed=1)
    alike = [replace(row, name="front", split="train") for row in rows]
    with pytest.raises(DataError, match="several photographs have one name"):
        scorer.make_pairs(alike, NOBODY, out, seeds=2, seed=1)
    rows[1].mask.unlink()
    with pytest.raises(DataError, match=r"mask\.png is missing"):
        scorer.make_pairs([replace(row, split="train") for row in rows], NOBODY, out, seeds=2, seed=1)
    assert not out.exists()
