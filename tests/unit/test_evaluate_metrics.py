"""What is measured: figures on results whose truth is known."""

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from evaluation import exported, scene

from inference.data import DataError
from inference.data.manifest import Photograph
from inference.evaluate import compare, perception, report, statistics
from inference.evaluate.attacks import SIDE_PX, Attack, Pairs, invert, retrain
from inference.evaluate.identity import Gallery, Identity, ranks
from inference.evaluate.loop import Evaluated
from inference.evaluate.methods import blurred, masked
from inference.evaluate.metrics import Diseases, Lesions, Measured, Seams, delta_e
from inference.evaluate.ratings import read_ratings
from inference.evaluate.statistics import Figure


def test_a_colour_difference_is_that_of_sharma_wu_and_dalal() -> None:
    first, second = np.array([[50.0, 2.6772, -79.7751]]), np.array([[50.0, 0.0, -82.7485]])
    assert delta_e(first, second)[0] == pytest.approx(2.0425, abs=1e-4)  # pair 1 of their Table 1


def test_lesions_that_stay_are_identical_and_others_are_told_by_their_colour() -> None:
    metric = Lesions()
    shown = scene()
    for picture, identical in ((shown.image, 1.0), (masked(shown), 0.0)):
        metric.reset()
        metric.update(shown, picture, 0.0)
        figures = metric.compute().figures
        assert figures["lesion_identical"].value == identical
        assert (figures["lesion_delta_e"].value == 0) == (identical == 1)


def test_a_photograph_without_lesions_does_not_count() -> None:
    metric = Lesions()
    shown = scene()
    healthy = type(shown)(
        shown.photograph, shown.image, np.where(shown.labels == 6, 1, shown.labels).astype(np.uint8)
    )
    metric.update(healthy, healthy.image, 0.0)
    assert np.isnan(metric.compute().figures["lesion_identical"].value)


def test_a_seam_is_as_visible_as_the_step_across_it() -> None:
    metric = Seams()
    shown = scene()
    seen = []
    for picture in (shown.image, blurred(shown), masked(shown)):
        metric.reset()
        metric.update(shown, picture, 0.0)
        seen.append(metric.compute().figures["seam"].value)
    assert seen[0] == 0
    assert seen[0] < seen[1] < seen[2]


class _Judge:
    """Tells a disease by how red the middle of a view is: stands for a trained network."""

    diseases = ("acne", "normal")
    size_px = 32

    def predict(self, views: np.ndarray) -> np.ndarray:
        red = views[..., 0].astype(np.float32).mean((1, 2)) / 255
        return np.stack([red, 1 - red], 1)


def test_a_disease_that_is_still_told_is_retained_and_one_that_is_gone_is_chance() -> None:
    metric = Diseases(_Judge())  # type: ignore[arg-type]
    scenes = []
    for seed in range(12):
        disease = ("acne", "normal")[seed % 2]
        shown = scene(seed, disease)
        image = np.full_like(shown.image, 200 if disease == "acne" else 60)
        scenes.append(type(shown)(shown.photograph, image, shown.labels))
    for change, retention in (("none", 1.0), ("grey", 0.5)):
        metric.reset()
        for one in scenes:
            metric.update(one, one.image if change == "none" else np.full_like(one.image, 128), 0.0)
        figures = metric.compute().figures
        assert figures["auc_before"].value == 1.0
        assert figures["retention"].value == retention


def test_nothing_is_retained_of_a_judge_who_is_always_wrong() -> None:
    metric = Diseases(_Judge())  # type: ignore[arg-type]
    for seed in range(6):
        disease = ("acne", "normal")[seed % 2]
        shown = scene(seed, disease)
        image = np.full_like(shown.image, 60 if disease == "acne" else 200)
        metric.update(type(shown)(shown.photograph, image, shown.labels), image, 0.0)
    figures = metric.compute().figures
    assert figures["auc_before"].value == 0
    assert np.isnan(figures["retention"].value)


def _gallery() -> Gallery:
    """Three persons on three axes; the first photographed twice, and once more the same photograph."""
    axes = np.eye(4, dtype=np.float32)
    other = np.array([0.8, 0.6, 0, 0], np.float32)
    return Gallery(
        embeddings=np.stack([axes[0], axes[0], other, axes[1], axes[2]]),
        patients=np.array(["a", "a", "a", "b", "c"]),
        photographs=np.array([0, 0, 2, 3, 4]),
        names=("a0", "a1", "a2", "b", "c"),
        landmarks={},
        thresholds=(0.3, 0.5),
        impostors=np.zeros(3),
    )


def _identity() -> Identity:
    return Identity(SimpleNamespace(name="pack", gallery=_gallery()))  # type: ignore[arg-type]


def test_an_unchanged_face_is_recognised_and_first_in_the_gallery() -> None:
    metric = _identity()
    for probe in (0, 3, 4):
        metric.note(probe, _gallery().embeddings @ _gallery().embeddings[probe], found=True)
    figures = metric.compute().figures
    assert figures["recognised at 0.001"].value == 1
    assert figures["unrecognised at 0.001"].value == 0
    assert figures["rank-1"].value == 1


def test_a_cosine_that_is_no_number_is_no_success() -> None:
    metric = _identity()
    metric.note(3, np.full(5, np.nan, np.float32), found=True)
    assert metric.compute().figures["unrecognised at 0.01"].value == 0


def test_no_face_is_neither_recognised_nor_anonymised_unless_the_place_still_tells_the_person() -> None:
    metric = _identity()
    metric.note(3, np.array([0, 0, 0, 0.1, 0], np.float32), found=False)
    metric.note(4, np.array([0, 0, 0, 0, 0.9], np.float32), found=False)
    figures = metric.compute().figures
    assert figures["no face at 0.01"].value == 0.5
    assert figures["recognised at 0.01"].value == 0.5
    assert figures["anonymised at 0.01"].value == 0


def test_another_photograph_is_none_of_the_renditions_of_the_same() -> None:
    gallery = _gallery()
    scores = np.array([0.9, 0.9, 0.2, 0.5, 0.4], np.float32)
    assert ranks(scores, gallery, 0, other_photograph=False) == 0
    assert ranks(scores, gallery, 0, other_photograph=True) == 2
    assert ranks(scores, gallery, 3, other_photograph=True) is None


def test_an_equal_cosine_counts_for_the_other_person() -> None:
    assert ranks(np.zeros(5, np.float32), _gallery(), 3, other_photograph=False) == 2


def test_ms_ssim_is_nothing_for_the_same_picture_and_grows_with_the_blur() -> None:
    metric = perception.MsSsim()
    shown = scene()
    seen = []
    for sigma in (0, 2, 8):
        metric.reset()
        changed = (
            shown.image if not sigma else np.asarray(cv2.GaussianBlur(shown.image, (0, 0), sigma), np.uint8)
        )
        metric.update(shown, changed, 0.0)
        seen.append(metric.compute().figures["one_minus_ms_ssim"].value)
    assert abs(seen[0]) < 1e-5
    assert seen[0] < seen[1] < seen[2]


def test_a_metric_without_its_own_weights_is_left_out_and_says_so() -> None:
    found, missing = perception.available(None)
    assert [metric.name for metric in found] == ["ms-ssim"]
    assert len(missing) == 2
    assert all("was left out" in sentence and "--metric-weights" in sentence for sentence in missing)


def test_a_folder_without_the_weights_it_is_given_for_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"neither inception-2015-12-05\.pt nor vgg16\.pt"):
        perception.available(tmp_path)
    exported(_Features(), tmp_path / perception.VGG)
    found, missing = perception.available(tmp_path)
    assert [metric.name for metric in found] == ["ms-ssim", "lpips"]
    assert [f"{tmp_path} lacks them" in sentence for sentence in missing] == [True]


class _Features(torch.nn.Module):
    """The inputs and outputs of the networks of LPIPS and FID, nothing learnt."""

    def forward(
        self, pictures: torch.Tensor, resize_images: bool = False, return_lpips: bool = False,
        return_features: bool = False,
    ) -> torch.Tensor:  # fmt: skip
        return torch.nn.functional.adaptive_avg_pool2d(pictures.float() / 255, 2).reshape(
            pictures.shape[0], -1
        )


def test_fid_and_lpips_are_nothing_for_the_same_pictures_and_something_for_others(tmp_path: Path) -> None:
    for file in (perception.INCEPTION, perception.VGG):
        exported(_Features(), tmp_path / file)
    found, missing = perception.available(tmp_path)
    assert not missing
    scenes = [scene(seed) for seed in range(20)]
    for metric, name in zip(found[1:], ("lpips", "fid"), strict=True):
        values = []
        for change in (lambda one: one.image, masked):
            metric.reset()
            for one in scenes:
                metric.update(one, change(one), 0.0)
            values.append(metric.compute().figures[name].value)
        assert abs(values[0]) < 1e-6 < values[1]


def test_a_file_that_is_no_network_is_refused(tmp_path: Path) -> None:
    (tmp_path / perception.VGG).write_bytes(b"no network")
    with pytest.raises(DataError, match="TorchScript"):
        perception.available(tmp_path)


def _faces(count: int, seed: int) -> np.ndarray:
    draw = np.random.default_rng(seed)
    small = draw.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    return np.stack([cv2.resize(one, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_CUBIC) for one in small])


def test_the_inversion_undoes_what_can_be_undone_and_not_what_is_gone() -> None:
    learnt, aimed = _faces(24, 1), _faces(4, 2)
    names = tuple(str(each) for each in range(24))
    config = Attack(steps=60, batch=4, width=8, learning_rate=5e-3)
    left = {}
    for title, change in (("inverted colours", lambda faces: 255 - faces), ("black", np.zeros_like)):
        painted = invert(Pairs(names, learnt, change(learnt)), change(aimed), config)
        left[title] = (
            np.abs(painted.astype(int) - aimed).mean() / np.abs(change(aimed).astype(int) - aimed).mean()
        )
    assert left["inverted colours"] < 0.6 * left["black"]


def test_the_retrained_layer_finds_a_linear_relation_and_none_in_noise() -> None:
    draw = np.random.default_rng(0)
    features, truth = draw.normal(size=(60, 20)), draw.normal(size=(20, 5))
    fresh = draw.normal(size=(10, 20))

    def cosine(wanted: np.ndarray, expected: np.ndarray) -> float:
        made = fresh @ retrain(features, wanted)
        return float(
            (
                (made * expected).sum(1) / np.linalg.norm(made, axis=1) / np.linalg.norm(expected, axis=1)
            ).mean()
        )

    assert cosine(features @ truth, fresh @ truth) > 0.99
    noise = draw.normal(size=(60, 5))
    assert cosine(noise, draw.normal(size=(10, 5))) < 0.5


def _method(name: str, after: float, unrecognised: float, hits: list[float]) -> Evaluated:
    patients = [str(each) for each in range(len(hits))]
    diseases = {"auc_before": Figure(0.9, 0.8, 1.0), "auc_after": Figure(after, after, after)}
    identity = {"unrecognised at 0.01": Figure(unrecognised, 0, 1), "rank-1": Figure(1 - unrecognised, 0, 1)}
    return Evaluated(
        name,
        {
            "diseases": Measured(diseases),
            "identity one": Measured(identity, {"rank-1": hits}, patients, patients),
        },
    )


def test_what_loses_the_disease_or_the_anonymity_ranks_last() -> None:
    methods = [
        _method("leaves everything", 0.9, 0.0, [1.0, 1.0]),
        _method("keeps and hides", 0.85, 0.95, [0.0, 0.0]),
        _method("hides everything", 0.55, 1.0, [0.0, 0.0]),
    ]
    assert [one.name for one in compare.ranked(methods)] == [
        "keeps and hides",
        "hides everything",
        "leaves everything",
    ]
    _, lines = report.rows(methods)
    assert [line[1] for line in lines] == [one.name for one in compare.ranked(methods)]


def test_a_difference_is_taken_picture_by_picture() -> None:
    first, second = _method("a", 0.9, 0.5, [1.0, 0.0, 1.0, 1.0]), _method("b", 0.9, 0.5, [0.0, 0.0, 1.0, 0.0])
    apart = compare.differences(first, second)["identity one: rank-1"]
    assert apart.value == 0.5
    assert apart.low >= 0
    assert compare.differences(first, first)["identity one: rank-1"] == Figure(0, 0, 0)


def test_the_judge_who_recognises_most_is_the_one_in_the_table() -> None:
    one = _method("a", 0.9, 0.9, [0.0])
    one.measured["identity two"] = Measured({"unrecognised at 0.01": Figure(0.4, 0.3, 0.5)})
    column = next(each for each in report.COLUMNS if each.figure == "unrecognised at 0.01")
    shown = report.shown(one, column)
    assert shown is not None
    assert shown.value == 0.4
    assert compare.unrecognised(one) == 0.4


RATED = [
    Photograph(Path(f"set/{name}"), Path("mask.png"), "acne", patient, "test")
    for name, patient in (("p1/front.png", "p1"), ("p2/front.png", "p2"), ("p2/left.png", "p2"))
]


def _rated(folder: Path, *rows: str) -> Measured:
    file = folder / "ratings.csv"
    file.write_text("\n".join(["method,image,rating", *rows, ""]))
    return read_ratings(file, ["anoskin", "masking"], RATED)["anoskin"]["clinical"]


def test_ratings_are_meaned_over_patients_whatever_end_of_a_path_names_a_photograph(tmp_path: Path) -> None:
    rated = _rated(
        tmp_path, "anoskin,p1/front.png,1", "anoskin,set/p2/front,5", "anoskin,left.png,5", "masking,left,1"
    )
    assert rated.figures["clinical"].value == pytest.approx(11 / 3)
    assert rated.patients == ["p1", "p2", "p2"]
    assert rated.figures["clinical"] == statistics.mean([1, 5, 5], ["p1", "p2", "p2"])


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ("anoskin,left,6", "from 1 to 5"),
        ("anoskin,left,", "from 1 to 5"),
        ("anoskim,left,4", "not among --methods"),
        ("anoskin,right,4", "no photograph"),
        ("anoskin,eft,4", "no photograph"),
        ("anoskin,front,4", "several photographs"),
    ],
)
def test_a_rating_of_nobody_knows_what_is_refused_with_its_row(tmp_path: Path, row: str, why: str) -> None:
    with pytest.raises(DataError, match=f"row 3.*{why}"):
        _rated(tmp_path, "anoskin,left,4", row)


def test_a_table_without_ratings_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no rating"):
        _rated(tmp_path)
