"""From a clean clone: invented people, a judge of diseases, and one table of seven methods."""

import json
from pathlib import Path

import pytest
from evaluation import written

from inference.cli import main
from inference.data.manifest import read
from inference.evaluate import registry
from inference.evaluate.options import METHODS

NAMES = ["none", "blurring", "black-bar", "masking", "pixelation", "k-same", "anoskin"]


@pytest.mark.models
def test_seven_methods_are_ranked_in_one_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, judge, out = tmp_path / "data", tmp_path / "judge", tmp_path / "report"
    assert (
        main(["data", "make-synthetic", "--out", str(data), "--limit", "6", "--each", "2", "--shares", "1:1"])
        == 0
    )
    shorter = ["--steps", "2", "--batch", "2", "--size-px", "32", "--threads", "1"]
    assert main(["train", "classifier", "--data", str(data), "--out", str(judge), *shorter]) == 0
    ratings = tmp_path / "ratings.csv"
    image = next(one.image.name for one in read(data) if one.split == "test")
    ratings.write_text(f"method,image,rating\nanoskin,{image},4\nmasking,{image},1\n")
    asked = ["evaluate", "--methods", *NAMES, "--data", str(data), "--out", str(out), "--classifier", str(judge),
             "--ratings", str(ratings), "--attack", "blurring", "masking", "--attack-steps", "2"]  # fmt: skip
    assert main(asked) == 0
    said = capsys.readouterr().out
    assert "LPIPS was left out" in said
    assert "flatter anoskin" in said  # the bundle's own pack judged
    found = json.loads((out / "report.json").read_text())
    assert sorted(found["ranking"]) == sorted(NAMES)
    none, ours = (found["methods"][name]["metrics"] for name in ("none", "anoskin"))
    assert none["diseases"]["figures"]["retention"]["value"] == 1
    assert none["identity faces"]["figures"]["unrecognised at 0.01"]["value"] == 0
    assert ours["identity faces"]["figures"]["unrecognised at 0.01"]["value"] > 0
    assert ours["clinical"]["figures"]["clinical"]["value"] == 4
    assert {"inversion faces", "retrained faces"} <= found["methods"]["blurring"]["metrics"].keys()
    assert "masking" in found["differences"]["anoskin"]
    table = (out / "table.md").read_text()
    assert all(f"| {name} |" in table for name in NAMES)
    page = (out / "report.html").read_text()
    assert page.count("data:image/") == 2 + len(NAMES)
    # A second run makes nothing anew: it finds every result where the first left it.
    kept = {file: file.stat().st_mtime_ns for file in (out / "results").rglob("*.png")}
    assert main(["evaluate", "--methods", "anoskin", "--data", str(data), "--out", str(out)]) == 0
    assert kept == {file: file.stat().st_mtime_ns for file in (out / "results").rglob("*.png")}


def test_a_photograph_set_without_the_split_is_told_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "manifest.csv").write_text("image,mask,disease,patient,split\na.png,b.png,acne,p,train\n")
    assert (
        main(["evaluate", "--methods", "none", "--data", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    )
    assert "gateway-models data split" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--attack", "bluring"], "--attack names bluring, which is not among --methods"),
        (["--attack", "--attack-steps", "0"], "--attack-steps must be 1 or more"),
        (["--attack", "--attack-patients", "1"], "--attack-patients 2 or more"),
        (["--weights", "masking=x"], "--weights names masking, which is not among --methods"),
        (["--weights", "none=x", "none=y"], "two folders for none"),
        (["--metric-weights", "nowhere"], "nowhere holds neither"),
        (["--classifier", "nowhere"], "No judge of diseases at nowhere"),
        (["--ratings", "ratings.csv"], "row 2: 'nobody': no photograph"),
        (["--judges", "a/faces", "b/faces"], "two face packs are called faces"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused_before_anything_is_made(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    why: str,
) -> None:
    bundle = Path("bundles/nano").resolve()
    monkeypatch.chdir(tmp_path)
    written(tmp_path, [1], ["test"], ["acne"])
    Path("ratings.csv").write_text("method,image,rating\nnone,nobody,4\n")
    asked = ["evaluate", "--methods", "none", "--data", ".", "--out", "out", "--bundle", str(bundle)]
    assert main([*asked, *options]) == 1
    assert why in capsys.readouterr().err
    assert not Path("out").exists()


def test_every_method_has_a_maker() -> None:
    for name in METHODS:
        try:
            made = registry.make([name], Path("bundles/nano"), {})
        except ValueError as error:
            assert f"--weights {name}=FOLDER" in str(error)
        else:
            assert made[0].name == name
