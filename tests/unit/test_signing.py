"""A bundle is put together, evaluated, described and signed off in one command, or told what it lacks."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from evaluation import written

from inference.bundle import read_bundle, verify
from inference.cli import main
from inference.data import DataError, synthetic
from inference.evaluate.card import card
from inference.evaluate.signing import Wanted, asked_by_recipe, unmet
from inference.evaluate.statistics import Figure
from inference.local import load_models
from inference.recipe import RecipeError
from inference.signoff import objection

ROOT = Path(__file__).parents[2]
NANO = ROOT / "bundles" / "nano"
GOOD = {
    "found": 1.0,
    "covered": 0.995,
    "outside": 1.0,
    "compared": 1.0,
    "lesion_identical": 0.7,
    "unrecognised at 0.001, one": 1.0,
    "unrecognised at 0.001, other": 0.97,
    "unrecognised at 0.01, other": 0.5,
}


def figures(**instead: float) -> dict[str, Figure]:
    named = {**GOOD, **{key.replace("_at_", " at 0.001, "): value for key, value in instead.items()}}
    return {name: Figure(value, value, value) for name, value in named.items()}


def test_what_meets_every_limit_lacks_nothing() -> None:
    assert unmet(figures(), 20, Wanted()) == []


@pytest.mark.parametrize(
    ("instead", "told"),
    [
        ({"outside": 0.999}, "untouched outside"),
        ({"found": 0.9}, "faces found 0.9, 0.95 asked"),
        ({"covered": 0.97}, "features covered"),
        ({"compared": 0.5}, "compared by the bundle's verifier"),
        ({"lesion_identical": 0.4}, "lesion kept"),
        ({"unrecognised_at_other": 0.94}, "unrecognised at 0.001 0.94, 0.95 asked"),
        ({"unrecognised_at_one": float("nan")}, "unrecognised at 0.001 nan"),
        ({"covered": float("nan")}, "features covered nan"),
    ],
)
def test_one_figure_below_its_limit_or_no_number_is_told(instead: dict[str, float], told: str) -> None:
    lacking = unmet(figures(**instead), 20, Wanted())
    assert len(lacking) == 1
    assert told in lacking[0]


@pytest.mark.parametrize("gone", ["found", "covered", "outside", "compared", "lesion_identical"])
def test_what_was_not_measured_meets_no_limit(gone: str) -> None:
    left = {name: figure for name, figure in figures().items() if name != gone}
    assert len(unmet(left, 20, Wanted())) == 1


def test_without_a_judge_or_with_too_few_photographs_nothing_is_met() -> None:
    left = {name: figure for name, figure in figures().items() if not name.startswith("unrecognised")}
    assert unmet(left, 20, Wanted()) == ["share unrecognised at 0.001 nan, 0.95 asked"]
    assert unmet(figures(), 19, Wanted()) == ["photographs 19, 20 asked"]


def test_a_recipe_without_photographs_to_evaluate_on_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="data is for the site to fill in"):
        asked_by_recipe(ROOT / "conf" / "bundles" / "sd2.toml", None, None, [])
    (tmp_path / "recipe.toml").write_text(
        '[evaluation]\ndata = "photographs"\nbefore = "old"\njudges = ["pack"]\n'
    )
    with pytest.raises(DataError, match="photographs"):
        asked_by_recipe(tmp_path / "recipe.toml", None, None, [])
    (tmp_path / "photographs").mkdir()
    written(tmp_path / "photographs", [1, 2], ["train", "test"], ["acne", "normal"])
    asked = asked_by_recipe(tmp_path / "recipe.toml", None, Path("new"), [])
    assert asked == replace(
        Wanted(), data=str(tmp_path / "photographs"), before="new", judges=(str(tmp_path / "pack"),)
    )
    (tmp_path / "recipe.toml").write_text("[evaluation]\nleast_found = 1.0\nleast_unrecogniced = 0.9\n")
    with pytest.raises(RecipeError, match="least_unrecogniced"):
        asked_by_recipe(tmp_path / "recipe.toml", tmp_path / "photographs", None, [])


def recipe(folder: Path, *, least_photographs: int) -> Path:
    """Nano's own parts as a site would name them, with a quick sampler."""
    head = (NANO / "bundle.toml").read_text().partition("\n[files]\n")[0]
    sources = f"""
[segmenter.source]
checkpoint = "{NANO}/segmenter/model.safetensors"
config = "{NANO}/segmenter/config.yaml"
figures = ["taught/figures.json"]

[inpainter.source]
base = "{NANO}/inpainter"

[faces.source]
folder = "{NANO}/faces"
licence = "Apache-2.0"

[evaluation]
data = "data"
least_photographs = {least_photographs}
least_unrecognised = 0.1
least_lesion = 0.0
"""
    (folder / "taught").mkdir()
    (folder / "about.md").write_text("## Limits\n\nTwo people who do not exist.\n")
    told = [{"step": 0, "iou": 0.25}, {"step": 9, "iou": 0.75}]
    (folder / "taught" / "figures.json").write_text(json.dumps(told))
    file = folder / "recipe.toml"
    head = head.replace("demonstration = true", 'demonstration = true\nnotes = "about.md"')
    file.write_text(
        head.replace("steps = 20", "steps = 4").replace("candidates = 3", "candidates = 1") + sources
    )
    return file


@pytest.mark.models
def test_a_bundle_is_built_evaluated_and_signed_off_or_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    people = list(synthetic.invented(load_models(NANO, threads=1), 2, seed=2))
    synthetic.make(people, tmp_path / "data", each=1, seed=1, wanted={"test": 1.0})
    folder = tmp_path / "bundle"
    assert main(["build", str(recipe(tmp_path, least_photographs=2)), str(folder)]) == 0
    bundle = read_bundle(folder)
    verify(bundle)
    assert objection(bundle) == ""
    assert load_models(folder, threads=1).objection == ""
    found = json.loads((folder / "evaluation.json").read_text())
    assert "evaluation.json" in bundle.files
    assert found["photographs"] == 2
    assert found["figures"]["outside"]["value"] == 1
    assert found["before"] is None
    page = (folder / "README.md").read_text()
    assert page == card(bundle, found)
    assert "Signed off." in page
    assert page.endswith("## Limits\n\nTwo people who do not exist.\n")
    assert "| segmenter, taught: iou | 0.25 | 0.75 |" in page
    capsys.readouterr()
    # More is asked of the same bundle: its word is taken back, and what it lacks stands on its card.
    text = (folder / "bundle.toml").read_text().replace("least_photographs = 2", "least_photographs = 3")
    (folder / "bundle.toml").write_text(text)
    assert objection(read_bundle(folder)) == "it was changed after it was signed off"
    again = ["sign-off", str(folder), "--data", str(tmp_path / "data"), "--before", str(folder)]
    assert main(again) == 1
    assert "photographs 2, 3 asked" in capsys.readouterr().err
    assert objection(read_bundle(folder)) == "photographs 2, 3 asked"
    assert "**Not signed off: photographs 2, 3 asked.**" in (folder / "README.md").read_text()
    found = json.loads((folder / "evaluation.json").read_text())
    assert found["before"]["figures"].keys() == found["figures"].keys()
    assert "| nano 1, before |" in (folder / "README.md").read_text()
