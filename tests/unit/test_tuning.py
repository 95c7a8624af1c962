"""Fine-tuning of the inpainter: it learns, goes on where it was ended, and what it writes paints."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from people import made

from inference.cli import main
from inference.data import DataError, pairs
from inference.data.pairs import Pair
from inference.inpaint import finetune, preferences
from inference.inpaint.examples import Examples
from inference.inpaint.inpainter import DiffusionInpainter
from inference.inpaint.tuning import PipelineError, Tuner, Tuning, load_pipeline
from inference.progress import write_figures
from inference.recipe import RecipeError, recipe

ROOT = Path(__file__).parents[2]
NANO = ROOT / "bundles/nano/inpainter"
QUICK = Tuning(
    steps=4, batch=2, rank=2, judged=4, judge_every=2, workers=0, learning_rate=3e-3, average_decay=0.5
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four people, three pictures each."""
    folder = tmp_path_factory.mktemp("site")
    made(folder, [f"p{number}" for number in range(4)], each=3)
    return folder


def figures(out: Path) -> list[dict[str, float]]:
    return json.loads((out / "figures.json").read_text())


def test_example_i_is_the_same_whenever_it_is_drawn_and_every_photograph_comes_once(site: Path) -> None:
    from inference.data.manifest import read

    rows = read(site)
    one, other = (Examples(rows, 64, 5, "face") for _ in range(2))
    expected = [one[index] for index in range(len(rows))]
    for index in (7, 0, 3):
        found = other[index]
        assert np.array_equal(found.image, expected[index].image)
        assert np.array_equal(found.hide, expected[index].hide)
        assert found.prompt == expected[index].prompt
    assert sorted(one.disease for one in expected) == sorted(row.disease for row in rows)
    for found in expected:
        assert found.hide.any()
        assert found.prompt == "" or ("showing" in found.prompt) == (found.disease != "normal")
    assert any((found.lesion & ~found.hide).any() for found in expected)


def test_a_photograph_on_which_nothing_is_labelled_is_named(site: Path, tmp_path: Path) -> None:
    from inference.data.manifest import read

    empty = tmp_path / "empty.png"
    cv2.imwrite(str(empty), np.zeros((96, 96), np.uint8))
    with pytest.raises(DataError, match=r"empty.png: nothing of a person"):
        Examples([replace(read(site)[0], mask=empty)], 64, 1, "face")[0]


def test_a_pipeline_learns_a_site_and_goes_on_where_it_was_ended(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuning = replace(QUICK, steps=8, judge_every=4, text_encoder=True, gradient_checkpointing=True)
    losses = finetune.Losses(diff_margin=-0.5)
    folder = finetune.train(site, NANO, tmp_path / "whole", tuning, losses)
    told = figures(tmp_path / "whole")
    assert [int(one["step"]) for one in told] == [0, 4, 8]
    assert told[-1]["error"] < told[0]["error"]

    update = Tuner.update

    def killed(self: Tuner, step: int) -> None:
        if step == 6:
            raise KeyboardInterrupt
        update(self, step)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Tuner, "update", killed)
        finetune.train(site, NANO, tmp_path / "halted", tuning, losses)
    finetune.train(site, NANO, tmp_path / "halted", tuning, losses)
    assert figures(tmp_path / "halted") == told
    name = "lora/pytorch_lora_weights.safetensors"
    assert (tmp_path / "halted" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()

    before, after = load_pipeline(NANO), load_pipeline(folder)
    for part in ("unet", "text_encoder"):
        old, new = getattr(before, part).state_dict(), getattr(after, part).state_dict()
        changed = {key for key, value in old.items() if not torch.equal(value, new[key])}
        assert changed
        assert all(".to_" in key or "_proj" in key for key in changed)
    assert all(torch.equal(v, after.vae.state_dict()[k]) for k, v in before.vae.state_dict().items())
    hide = np.zeros((1, 128, 128), bool)
    hide[:, 32:96, 32:96] = True
    view = np.full((1, 128, 128, 3), 150, np.uint8)
    painted = [DiffusionInpainter(one, steps=2).inpaint(view, hide, ["face"], [3]) for one in (NANO, folder)]
    assert not np.array_equal(*painted)

    whole = tmp_path / "whole"
    with pytest.raises(
        DataError, match=r"whole holds another training \(rank 2, not 3\); name another --out"
    ):
        finetune.train(site, NANO, whole, replace(tuning, rank=3), losses)
    with pytest.raises(DataError, match=r"\(ffe 0.5, not 0.0\)"):
        finetune.train(site, NANO, whole, tuning, replace(losses, ffe=0.0))
    with pytest.raises(DataError, match=r"\(other pipeline\)"):
        finetune.train(site, folder, whole, tuning, losses)
    assert (whole / name).read_bytes() == (tmp_path / "halted" / name).read_bytes()


def test_two_processes_learn_together_and_one_does_not_go_on_alone(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["train", "inpaint", "--data", site, "--out", tmp_path / "out", "--pipeline", NANO]
    asked += ["--config", ROOT / "conf/training/inpaint.toml", "--steps", 1, "--batch", 1, "--rank", 2]
    asked += ["--judged", 1, "--workers", 0]
    words = [str(word) for word in asked]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run([*launch, "-m", "inference.cli", *words], check=True, timeout=300, capture_output=True)
    assert [one["step"] for one in figures(tmp_path / "out")] == [0, 1]
    assert (tmp_path / "out/pipeline/model_index.json").is_file()
    assert main(words) == 1
    assert "another training (processes 2, not 1)" in capsys.readouterr().err


def preferred(folder: Path, count: int = 6) -> list[Pair]:
    """Pairs of a smooth face and the same with its painted part blotched; the smooth one wins."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(2)
    hide = np.zeros((128, 128), np.uint8)
    cv2.circle(hide, (64, 64), 40, 255, -1)
    found = []
    for number in range(count):
        picture = np.full((128, 128, 3), draw.integers(90, 200, 3), np.uint8)
        blotched = picture.copy()
        noise = cv2.resize(draw.integers(0, 255, (16, 16, 3)).astype(np.uint8), (128, 128))
        blotched[hide > 0] = noise[hide > 0]
        files = [folder / f"{number}-{name}.png" for name in ("winner", "loser", "hide")]
        for file, content in zip(files, (picture, blotched, hide), strict=True):
            cv2.imwrite(str(file), content)
        found.append(Pair(*files, "face", f"p{number}", "train" if number < count - 2 else "validation"))
    return found


def test_the_command_teaches_which_painting_is_preferred(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs.write(tmp_path / "pairs.csv", preferred(tmp_path))
    asked = ["train", "preferences", "--data", tmp_path, "--out", tmp_path / "out", "--pipeline", NANO]
    asked += ["--config", ROOT / "conf/training/preferences.toml", "--steps", 12, "--judge-every", 12]
    asked += ["--batch", 2, "--rank", 2, "--learning-rate", 3e-3, "--workers", 0]
    assert main([str(word) for word in asked]) == 0
    assert "preferred" in capsys.readouterr().out
    assert main([str(word) for word in [*asked, "--seed", 2]]) == 1
    assert "another training (seed 1, not 2); name another --out" in capsys.readouterr().err
    before, after = figures(tmp_path / "out")
    assert after["gap"] > before["gap"]
    assert after["winner"] < before["winner"] * 1.02
    assert (tmp_path / "out/pipeline/model_index.json").is_file()
    (tmp_path / "0-loser.png").unlink()
    assert main([str(word) for word in asked]) == 1
    assert "0-loser.png: No such file" in capsys.readouterr().err


def test_a_training_that_diverges_says_so_and_leaves_no_state(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["train", "inpaint", "--data", site, "--out", tmp_path / "out", "--pipeline", NANO]
    asked += ["--config", ROOT / "conf/training/inpaint.toml", "--steps", 1, "--batch", 1, "--rank", 2]
    asked += ["--judged", 1, "--workers", 0, "--learning-rate", 1e30]
    assert main([str(word) for word in asked]) == 1
    assert capsys.readouterr().err.startswith("gateway-models: the training diverged")
    assert not (tmp_path / "out/tuning.pt").exists()


@pytest.mark.parametrize(
    ("part", "extra", "told"),
    [
        ("inpaint", ["--config", "conf/training/segment.toml"], r"There is no .*manifest\.csv"),
        ("preferences", ["--config", "none.toml"], "none.toml cannot be read as a TOML file"),
        ("segment", ["--start-from", "none.pth"], "holds no portraits|no portraits in"),
    ],
)
def test_what_cannot_be_learnt_from_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], part: str, extra: list[str], told: str
) -> None:
    assert main(["train", part, "--data", str(tmp_path), "--out", str(tmp_path / "out"), *extra]) == 1
    assert re.search(told, capsys.readouterr().err)


def test_pairs_are_read_from_csv_and_from_json_lines_alike(tmp_path: Path) -> None:
    made_pairs = preferred(tmp_path, 3)
    pairs.write(tmp_path / "pairs.csv", made_pairs)
    lines = [
        json.dumps(
            {"winner": p.winner.name, "loser": p.loser.name, "hide": p.hide.name}
            | {"prompt": p.prompt, "patient": p.patient, "split": p.split}
        )
        for p in made_pairs
    ]
    (tmp_path / "console.jsonl").write_text("\n".join(lines) + "\n")
    assert pairs.read(tmp_path) == pairs.read(tmp_path / "console.jsonl") == made_pairs
    assert pairs.read(tmp_path, "validation") == made_pairs[1:]


def test_pairs_that_differ_elsewhere_or_leak_are_refused(tmp_path: Path) -> None:
    (pair, *others) = preferred(tmp_path, 3)
    picture = cv2.imread(str(pair.loser))
    picture[0, 0] ^= 1
    cv2.imwrite(str(pair.loser), picture)
    with pytest.raises(DataError, match=r"differ outside of 0-hide.png"):
        pair.read()
    pairs.write(tmp_path / "pairs.csv", [pair, replace(others[0], patient=pair.patient)])
    with pytest.raises(DataError, match="patient p0: stands in"):
        pairs.read(tmp_path)


def test_a_pair_that_is_not_square_is_seen_about_what_was_painted(tmp_path: Path) -> None:
    pair = preferred(tmp_path, 1)[0]
    for file in (pair.winner, pair.loser, pair.hide):
        content = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
        wide = cv2.copyMakeBorder(content, 0, 0, 100, 0, cv2.BORDER_CONSTANT)
        cv2.imwrite(str(file), wide)
    winner, loser, hide = pair.square(64)
    assert winner.shape == loser.shape == (64, 64, 3)
    assert 0.4 < hide.mean() < 0.6
    assert np.abs(winner[~hide].astype(int) - loser[~hide]).mean() < 2


def test_a_pipeline_that_is_none_is_one_clear_sentence(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="holds no diffusers inpainting pipeline"):
        load_pipeline(tmp_path)


@pytest.mark.parametrize(
    ("file", "table", "kind"),
    [
        ("inpaint.toml", "loss", finetune.Losses),
        ("inpaint.toml", "tuning", Tuning),
        ("preferences.toml", "preference", preferences.Preferring),
    ],
)
def test_the_recipes_shipped_name_every_key(file: str, table: str, kind: type) -> None:
    import tomllib

    path = ROOT / "conf/training" / file
    content = tomllib.loads(path.read_text())[table]
    assert set(content) == set(kind.__dataclass_fields__)
    if file == "inpaint.toml":
        assert recipe(kind, path, table) == kind()


@pytest.mark.parametrize(
    ("text", "told"),
    [("[loss]\nfee = 1.0", "unknown keys: fee"), ("[loss]\nffe = 'much'", "ffe must be like"), ("[", "TOML")],
)
def test_a_recipe_that_cannot_be_followed_says_why(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "r.toml").write_text(text)
    with pytest.raises(RecipeError, match=told):
        recipe(finetune.Losses, tmp_path / "r.toml", "loss")


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (finetune.Losses, {"ffe": -1.0}),
        (finetune.Losses, {"diff": float("nan")}),
        (finetune.Losses, {"ffe_share": 2.0}),
        (Tuning, {"steps": 0}),
        (Tuning, {"learning_rate": 0.0}),
        (Tuning, {"precision": "int8"}),
        (Tuning, {"workers": -1}),
        (Tuning, {"seed": -1}),
        (preferences.Preferring, {"beta": 0.0}),
        (preferences.Preferring, {"memory": 1.0}),
    ],
)
def test_a_number_that_cannot_be_meant_is_refused(kind: type, wrong: dict[str, object]) -> None:
    with pytest.raises(RecipeError):
        kind(**wrong)


def test_a_form_of_diff_that_is_none_is_refused() -> None:
    with pytest.raises(RecipeError, match="separate or literal"):
        finetune.Losses(diff_form="apart")


def test_figures_that_are_no_numbers_are_null(tmp_path: Path) -> None:
    write_figures(tmp_path / "figures.json", [{"step": 0, "likeness": float("nan")}])
    assert json.loads((tmp_path / "figures.json").read_text()) == [{"step": 0, "likeness": None}]
