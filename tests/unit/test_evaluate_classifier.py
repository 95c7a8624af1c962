"""The judge of diseases: a folder holds one training, and what was not learnt judges nobody."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from evaluation import written

from inference.cli import main
from inference.data import DataError
from inference.data.manifest import Photograph, read
from inference.evaluate.classifier import (
    CARD,
    STATE,
    WEIGHTS,
    Classifier,
    ClassifierTraining,
    train_classifier,
)

RECIPE = ClassifierTraining(steps=1, batch=2, size_px=32)


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Photograph]]:
    """A judge trained for one step, and the photographs it saw."""
    folder = tmp_path_factory.mktemp("classifier")
    diseases = ["acne", "normal", "acne", "normal", "eczema"]
    rows = written(folder, list(range(5)), ["train"] * 2 + ["validation"] * 3, diseases)
    train_classifier(rows[:2], rows[2:], folder / "judge", RECIPE)
    return folder / "judge", rows


@pytest.fixture
def judge(learnt: tuple[Path, list[Photograph]], tmp_path: Path) -> Path:
    """A copy of the trained judge."""
    return Path(shutil.copytree(learnt[0], tmp_path / "judge"))


def test_a_judge_goes_on_for_more_steps_and_its_card_says_so(
    learnt: tuple[Path, list[Photograph]], judge: Path
) -> None:
    rows = learnt[1]
    card = Classifier(judge).card
    assert (card["steps"], card["diseases"], card["validation_photographs"]) == (1, ["acne", "normal"], 2)
    train_classifier(rows[:2], rows[2:], judge, replace(RECIPE, steps=2))
    assert Classifier(judge).card["steps"] == 2
    with pytest.raises(DataError, match="holds a judge of 2 steps, more than 1"):
        train_classifier(rows[:2], rows[2:], judge, RECIPE)


@pytest.mark.parametrize(
    ("config", "seen", "why"),
    [
        (replace(RECIPE, seed=7), slice(2), r"seed 1, not 7\)"),
        (replace(RECIPE, size_px=64), slice(2), r"size_px 32, not 64\)"),
        (RECIPE, slice(1, 3), r"other photographs\)"),
        (RECIPE, slice(5), r"diseases acne, normal, not acne, eczema, normal\)"),
    ],
)
def test_a_folder_that_holds_another_training_is_refused_and_stays(
    learnt: tuple[Path, list[Photograph]], judge: Path, config: ClassifierTraining, seen: slice, why: str
) -> None:
    before = {file.name: file.read_bytes() for file in judge.iterdir()}
    with pytest.raises(DataError, match=rf"another training \({why}; name another --out"):
        train_classifier(learnt[1][seen], [], judge, config)
    assert {file.name: file.read_bytes() for file in judge.iterdir()} == before


def test_a_judge_whose_state_tells_nothing_is_read_but_not_trained_further(
    learnt: tuple[Path, list[Photograph]], judge: Path
) -> None:
    state = torch.load(judge / STATE, weights_only=True)
    del state["decided"]
    torch.save(state, judge / STATE)
    assert Classifier(judge).predict(np.zeros((3, 32, 32, 3), np.uint8)).shape == (3, 2)
    with pytest.raises(DataError, match="name another --out"):
        train_classifier(learnt[1][:2], [], judge, replace(RECIPE, steps=2))


def test_a_training_that_diverges_writes_nothing(
    learnt: tuple[Path, list[Photograph]], tmp_path: Path
) -> None:
    with pytest.raises(FloatingPointError, match="diverged"):
        train_classifier(learnt[1][:2], [], tmp_path, replace(RECIPE, steps=3, learning_rate=1e30))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", [CARD, WEIGHTS])
def test_a_damaged_judge_judges_nobody(judge: Path, name: str) -> None:
    whole = (judge / name).read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], b"{}"):
        (judge / name).write_bytes(damaged)
        with pytest.raises(DataError, match="is damaged: remove it"):
            Classifier(judge)
    (judge / name).unlink()
    with pytest.raises(DataError, match="No judge of diseases"):
        Classifier(judge)


@pytest.mark.parametrize(
    "wrong", [("steps", 0), ("batch", 1), ("size-px", 50), ("size-px", 0), ("seed", -1)], ids=str
)
def test_a_number_that_cannot_be_meant_is_one_sentence(
    learnt: tuple[Path, list[Photograph]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    wrong: tuple[str, int],
) -> None:
    data, out = learnt[0].parent, tmp_path / "judge"
    name, value = wrong
    asked = ["train", "classifier", "--data", str(data), "--out", str(out), f"--{name}", str(value)]
    assert main(asked) == 1
    assert name.replace("-", "_") in capsys.readouterr().err
    assert not out.exists()


def test_a_missing_photograph_is_told_before_the_first_step(
    learnt: tuple[Path, list[Photograph]], tmp_path: Path
) -> None:
    rows = read(learnt[0].parent)
    missing = replace(rows[2], mask=tmp_path / "nowhere.png")
    with pytest.raises(DataError, match="nowhere"):
        train_classifier(rows[:2], [missing], tmp_path / "judge", RECIPE)
    assert not (tmp_path / "judge").exists()


def test_the_card_is_whole_json_without_a_disease_to_tell_apart(
    learnt: tuple[Path, list[Photograph]], tmp_path: Path
) -> None:
    train_classifier(learnt[1][:2], learnt[1][2:3], tmp_path, RECIPE)
    card = json.loads((tmp_path / CARD).read_text())
    assert "validation_auc" not in card
