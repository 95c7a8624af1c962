"""Training teaches, can be interrupted without a trace, and never looks at the held-back portraits."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from people import made

from inference.contract import CLASSES, DISEASES
from inference.data import DataError
from inference.data.manifest import read
from inference.phantom import skin_patch
from inference.pointrend import scenes
from inference.pointrend.config import PointRendConfig, write_config
from inference.pointrend.data import Mix, Samples, Stance, crop, photograph
from inference.pointrend.losses import uncertain_points
from inference.pointrend.model import sample_points, uncertainty
from inference.pointrend.site import SiteScenes, judge, squared
from inference.pointrend.train import Recipe, Training, batches, half, main, train
from inference.progress import deciding
from inference.recipe import RecipeError, recipe
from inference.split import HELD_BACK, held_back

ROOT = Path(__file__).parents[2]
NANO = PointRendConfig.from_yaml(ROOT / "conf/pointrend/nano.yaml")
TINY = replace(
    NANO, stem_channels=8, res2_channels=8, fpn_channels=16, head_channels=32, fc_dim=16, train_points=128
)
RECIPE = Recipe(batch=4, steps=4, small_px=64, size_px=64, workers=0, checkpoint_every=2, peak_rate=4e-3)


def drawn_face(seed: int = 0, size: int = 128) -> scenes.Scene:
    """A face of discs on a blue wall, with its labels."""
    image, labels = np.full((size, size, 3), (60, 90, 150), np.uint8), np.zeros((size, size), np.uint8)
    skin = skin_patch(size, 0.2, seed)
    c = size // 2
    cv2.ellipse(labels, (c, c), (c * 6 // 10, c * 8 // 10), 0, 0, 360, 1, -1)
    image[labels == 1] = skin[labels == 1]
    parts = [
        (2, (70, 45, 30), -20, -28, 10, 3),
        (2, (70, 45, 30), 20, -28, 10, 3),
        (3, (20, 20, 30), -20, -16, 7, 4),
    ]
    parts += [
        (3, (20, 20, 30), 20, -16, 7, 4),
        (4, (200, 140, 120), 0, 4, 7, 12),
        (5, (170, 40, 50), 0, 28, 14, 5),
    ]
    for label, colour, x, y, rx, ry in parts:
        cv2.ellipse(labels, (c + x, c + y), (rx, ry), 0, 0, 360, label, -1)
        cv2.ellipse(image, (c + x, c + y), (rx, ry), 0, 0, 360, colour, -1)
    return scenes.Scene(image, labels)


def portraits_folder(root: Path, count: int) -> Path:
    (root / "images").mkdir(parents=True)
    (root / "labels").mkdir()
    scene = drawn_face()
    for number in range(count):
        cv2.imwrite(str(root / f"images/person-{number:03}.jpg"), scene.image[..., ::-1])
        cv2.imwrite(str(root / f"labels/person-{number:03}.png"), scene.labels)
    return root


def test_a_few_steps_lower_the_loss() -> None:
    recipe = replace(RECIPE, steps=40)
    run = Training(TINY, recipe)
    losses = [sum(run.step(*pair)) for pair in batches([drawn_face()], recipe, 0)]
    assert np.mean(losses[-8:]) < 0.8 * np.mean(losses[:8])


def test_an_interrupted_run_ends_with_the_very_same_weights(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    whole = Training(TINY, RECIPE)
    for pair in batches([drawn_face()], RECIPE, 0):
        whole.step(*pair)
    first = Training(TINY, RECIPE)
    for _, pair in zip(range(2), batches([drawn_face()], RECIPE, 0), strict=False):
        first.step(*pair)
    first.save(tmp_path, deciding("segment", RECIPE))
    second = Training(TINY, RECIPE)
    second.resume(tmp_path, deciding("segment", RECIPE))
    assert second.done == 2
    for pair in batches([drawn_face()], RECIPE, second.done):
        second.step(*pair)
    for one, other in ((whole.model, second.model), (whole.average, second.average)):
        for name, tensor in one.state_dict().items():
            assert torch.equal(tensor, other.state_dict()[name]), name


def test_the_command_trains_and_a_second_call_has_nothing_left_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = portraits_folder(tmp_path / "data", HELD_BACK + 2)
    arguments = ["--data", str(data), "--out", str(tmp_path / "out"), "--steps", "1", "--batch", "2"]
    arguments += [
        "--workers",
        "0",
        "--small-px",
        "32",
        "--size-px",
        "32",
        "--model",
        str(ROOT / "conf/pointrend/nano.yaml"),
    ]
    arguments += ["--recipe", str(ROOT / "conf/training/segment.toml")]
    assert main(arguments) == 0
    assert "segment 1/1" in capsys.readouterr().out
    weights = (tmp_path / "out/model.safetensors").read_bytes()
    assert main(arguments) == 0
    assert "segment 1/1" not in capsys.readouterr().out
    for other in (["--seed", "9"], ["--start-from", str(tmp_path / "out/model.safetensors")]):
        with pytest.raises(
            DataError, match=r"out holds another training \((seed 1, not 9|other start_from)\)"
        ):
            main([*arguments, *other])
    (data / "images/person-051.jpg").unlink()
    with pytest.raises(DataError, match="other photographs"):
        main(arguments)
    assert (tmp_path / "out/model.safetensors").read_bytes() == weights


def test_weights_that_cannot_be_written_are_told_and_no_state_pretends_they_were(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").mkdir()
    with pytest.raises(OSError, match=r"model\.safetensors cannot be written; is the disk full"):
        Training(TINY, RECIPE).save(tmp_path, {})
    assert not (tmp_path / "checkpoint.pth").exists()


@pytest.mark.parametrize(("rate", "every"), [(1e300, 1), (1e38, 2)])
def test_a_training_that_diverges_says_so_and_leaves_no_state(
    tmp_path: Path, rate: float, every: int
) -> None:
    data = portraits_folder(tmp_path / "data", HELD_BACK + 1)
    with pytest.raises(FloatingPointError, match="diverged"):
        train(TINY, replace(RECIPE, peak_rate=rate, checkpoint_every=every), data, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("workers", [0, 1])
def test_a_photograph_that_cannot_be_read_is_one_sentence(tmp_path: Path, workers: int) -> None:
    row = made(tmp_path, ["p0"], each=1)[0]
    scenes_of_site = SiteScenes([row])
    row.mask.write_bytes(row.mask.read_bytes()[:100])
    drawn = batches(scenes_of_site, replace(RECIPE, workers=workers), 0, Mix(negatives=0.0))
    with pytest.raises(DataError) as told:
        next(drawn)
    assert str(told.value).startswith(row.mask.name)
    assert "Traceback" not in str(told.value)


@pytest.mark.parametrize("suffix", ["image", "mask"])
def test_a_file_that_is_missing_is_told_before_the_first_step(tmp_path: Path, suffix: str) -> None:
    file = getattr(made(tmp_path / "site", [f"p{n}" for n in range(4)], each=1)[-1], suffix)
    file.unlink()
    with pytest.raises(DataError, match=file.name):
        train(TINY, RECIPE, tmp_path / "site", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "wrong",
    [
        {"batch": 0},
        {"batch": 1, "small_px": 32},
        {"steps": 0},
        {"checkpoint_every": 0},
        {"threads": 0},
        {"workers": -1},
        {"seed": -1},
        {"size_px": 50},
        {"small_px": 0},
        {"peak_rate": float("nan")},
        {"class_weights": (1.0, 0.0)},
        {"ema": 1.0},
        {"small_share": 2.0},
        {"negatives": float("nan")},
    ],
)
def test_a_number_that_cannot_be_meant_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(RecipeError, match=next(iter(wrong))):
        Recipe(**wrong)


def test_held_back_portraits_are_never_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = portraits_folder(tmp_path / "data", HELD_BACK + 2)
    opened: list[str] = []
    load = scenes.load

    def spy(root: Path, wanted: list[str]) -> list[scenes.Scene]:
        opened.extend(wanted)
        return load(root, wanted)

    monkeypatch.setattr(scenes, "load", spy)
    train(TINY, replace(RECIPE, steps=1, batch=1), data, tmp_path / "out")
    assert len(opened) == 2
    assert not set(opened) & held_back(scenes.names(data))


def test_a_site_s_photographs_teach_and_are_judged_class_by_class(tmp_path: Path) -> None:
    made(tmp_path / "site", [f"p{number}" for number in range(4)], each=3)
    chosen = replace(RECIPE, steps=40, checkpoint_every=20, negatives=0.0)
    weights = train(TINY, chosen, tmp_path / "site", tmp_path / "out")
    figures = json.loads((tmp_path / "out/figures.json").read_text())
    assert [one["step"] for one in figures] == [0, 20, 40]
    assert set(figures[0]) == {"step", "miou", *CLASSES}
    assert figures[-1]["miou"] > figures[0]["miou"] + 0.05
    # Its weights are a start, for other classes too.
    begun = Training(replace(TINY, classes=4), replace(RECIPE, class_weights=(1.0,) * 4))
    left = begun.start_from(weights)
    assert all(name.startswith("sem_seg_head.") for name in left)
    assert any("predictor" in name for name in left)
    own = Training(TINY, RECIPE)
    assert own.start_from(weights) == ()
    assert json.loads((tmp_path / "out/figures.json").read_text())[-1]["miou"] == pytest.approx(
        judge(own.average, SiteScenes(read(tmp_path / "site", "validation")), RECIPE.size_px)["miou"],
        abs=0.02,
    )


def test_a_site_s_lesions_are_as_photographed_and_nothing_is_painted(tmp_path: Path) -> None:
    rows = made(tmp_path, ["p0"], each=1)
    assert rows[0].disease == "normal"
    samples = Samples(SiteScenes(rows), 3, lambda _: 64, Mix(healthy=1.0, negatives=0.0))
    assert not any((samples[index][1] == scenes.LESION).any() for index in range(12))


def test_a_large_photograph_is_kept_small_with_its_labels(tmp_path: Path) -> None:
    row = made(tmp_path, ["p0"], each=1)[0]
    for file in (row.image, row.mask):
        content = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(file), cv2.resize(content, (2048, 1024), interpolation=cv2.INTER_NEAREST))
    scene = SiteScenes([row])[0]
    assert scene.image.shape == (512, 1024, 3)
    square, labels = squared(scene, 64)
    assert square.shape == (64, 64, 3)
    assert (labels[:16] == 255).all() and (labels[48:] == 255).all()
    assert (labels[16:48] < len(CLASSES)).all()


def test_a_precision_that_is_none_is_refused() -> None:
    with pytest.raises(RecipeError, match="auto, bf16 or no"):
        half("fp8", torch.device("cpu"))
    assert not half("auto", torch.device("cpu"))


def test_half_precision_teaches_too() -> None:
    chosen = replace(RECIPE, steps=2, precision="bf16")
    run = Training(TINY, chosen)
    for pair in batches([drawn_face()], chosen, 0):
        assert all(np.isfinite(run.step(*pair)))


def test_detectron2_s_reference_checkpoint_is_a_start(tmp_path: Path, shared: Path) -> None:
    folder = shared / "reference/pointrend/r50_tiny"
    config = PointRendConfig.from_yaml(folder / "config.yaml")
    run = Training(config, RECIPE)
    assert run.start_from(folder / "model_final.pth") == ()
    write_config(folder / "config.yaml", tmp_path / "config.yaml", 3)
    three = PointRendConfig.from_yaml(tmp_path / "config.yaml")
    assert three == replace(config, classes=3)
    assert any("predictor" in name for name in Training(three, RECIPE).start_from(folder / "model_final.pth"))


def test_a_folder_without_portraits_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(scenes.MissingDataError, match="no portraits"):
        train(TINY, RECIPE, tmp_path, tmp_path / "out")


def test_an_unknown_key_in_the_recipe_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "segment.toml").write_text("sped = 3\n")
    with pytest.raises(RecipeError, match="unknown keys: sped"):
        recipe(Recipe, tmp_path / "segment.toml")


def test_the_recipe_shipped_is_the_default_recipe() -> None:
    assert recipe(Recipe, ROOT / "conf/training/segment.toml") == Recipe()


def test_the_learning_rate_rises_and_falls() -> None:
    recipe = Recipe(steps=1000)
    rates = [recipe.rate_at(step) for step in range(1000)]
    assert max(rates) == pytest.approx(recipe.peak_rate)
    assert rates[0] < 0.1 * recipe.peak_rate
    assert rates[-1] < 0.02 * recipe.peak_rate


def test_points_are_taken_where_the_model_is_unsure() -> None:
    logits = torch.zeros(1, 3, 32, 32)
    logits[:, 0] = 5.0
    logits[:, 1, :, 16:18] = 5.0  # a seam of doubt, a sixteenth of the picture
    source = torch.Generator().manual_seed(0)
    points = uncertain_points(logits, 200, 3.0, 0.75, source)
    assert points.shape == (1, 200, 2)
    doubt = uncertainty(sample_points(logits, points))[0]
    even = uncertainty(sample_points(logits, torch.rand(1, 200, 2, generator=source)))[0]
    assert (doubt > -4.9).float().mean() > 2 * (even > -4.9).float().mean()


def test_sample_i_is_the_same_whenever_it_is_drawn() -> None:
    one, other = (Samples([drawn_face()], 3, lambda _: 64) for _ in range(2))
    expected = [one[index] for index in range(9)]
    for index in (8, 2, 5):
        image, labels = other[index]
        assert np.array_equal(image, expected[index][0])
        assert np.array_equal(labels, expected[index][1])
    assert not np.array_equal(expected[0][0], expected[1][0])


def test_samples_hold_every_class_and_faces_that_are_not_whole() -> None:
    samples = Samples([drawn_face(number) for number in range(3)], 1, lambda _: 64, Mix(views=1))
    labels = [samples[index][1] for index in range(80)]
    assert set(np.unique(np.stack(labels))) == set(range(len(CLASSES)))
    one_eyed = [found for found in labels if (found == 3).any() and not (found == 5).any()]
    assert len(one_eyed) >= 5
    assert sum(not found.any() for found in labels) >= 3


def test_a_crop_moves_picture_and_labels_together() -> None:
    scene = drawn_face()
    marked = scenes.Scene(np.repeat(scene.labels[..., None] * np.uint8(40), 3, axis=2), scene.labels)
    rng = np.random.default_rng(4)
    for _ in range(20):
        stance = Stance(float(rng.uniform(0.8, 5)), float(rng.uniform(0, 360)))
        seen = crop(marked, rng, 96, stance)
        inside = cv2.erode((seen.labels == 1).astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
        if inside.any():
            assert np.median(seen.image[inside]) == 40


def test_a_lesion_painted_on_a_face_is_labelled_and_nothing_else_changes() -> None:
    scene = drawn_face()
    for disease in DISEASES:
        sick = scenes.diseased(scene, disease, 5)
        lesion = sick.labels == scenes.LESION
        assert lesion.any()
        assert np.array_equal(sick.labels[~lesion], scene.labels[~lesion])
        assert np.array_equal(sick.image[~lesion], scene.image[~lesion])
        assert not np.isin(scene.labels[lesion], (0, scenes.EYE, scenes.MOUTH)).any()


def test_a_photograph_stays_a_photograph() -> None:
    image = drawn_face().image
    for seed in range(30):
        taken = photograph(image, np.random.default_rng(seed))
        assert taken.shape == image.shape
        assert taken.dtype == np.uint8
        assert taken.std() > 2
