"""The segmenter of a bundle: letterbox there and back, probabilities, refusals, and the shipped figures."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

from inference.contract import CLASSES
from inference.pointrend.config import ConfigError, PointRendConfig
from inference.pointrend.letterbox import FILL, letterbox, unletterbox
from inference.pointrend.model import PointRend
from inference.pointrend.segmenter import PointRendSegmenter
from inference.pointrend.weights import WeightsError, write_weights

ROOT = Path(__file__).parents[2]
BUNDLE = ROOT / "bundles/nano/segmenter"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle's segmenter with a very small random network."""
    folder = tmp_path_factory.mktemp("segmenter")
    content = yaml.safe_load((ROOT / "conf/pointrend/nano.yaml").read_text())
    content["MODEL"]["RESNETS"].update(STEM_OUT_CHANNELS=8, RES2_OUT_CHANNELS=8)
    (folder / "config.yaml").write_text(yaml.safe_dump(content))
    torch.manual_seed(0)
    write_weights(PointRend(PointRendConfig.from_yaml(folder / "config.yaml")), folder / "model.safetensors")
    return folder


@given(height=st.integers(1, 700), width=st.integers(1, 700), size=st.sampled_from([32, 64, 256]))
def test_a_picture_of_any_shape_fits_its_square_and_comes_back_at_its_own_size(
    height: int, width: int, size: int
) -> None:
    image = np.full((height, width, 3), 200, np.uint8)
    square, placed = letterbox(image, size)
    assert square.shape == (size, size, 3)
    inside = np.zeros((size, size), np.bool_)
    inside[placed.y : placed.y + placed.inner_height, placed.x : placed.x + placed.inner_width] = True
    assert (square[inside] == 200).all()
    assert (square[~inside] == FILL).all()
    assert max(placed.inner_width, placed.inner_height) == size
    values = np.where(inside, 1.0, 0.0).astype(np.float32)[None]
    back = unletterbox(values, placed)
    assert back.shape == (1, height, width)
    assert (back == 1.0).all(), "what belongs to the bars leaked into the picture"


def test_letterbox_keeps_positions() -> None:
    image = np.zeros((300, 600, 3), np.uint8)
    image[200:240, 400:480] = 255
    square, placed = letterbox(image, 256)
    back = unletterbox(square[..., 0].astype(np.float32)[None], placed)[0]
    ys, xs = np.nonzero(back > 127)
    assert abs(xs.mean() - 439.5) < 2
    assert abs(ys.mean() - 219.5) < 2


def test_an_empty_picture_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        letterbox(np.zeros((0, 5, 3), np.uint8), 256)


def test_probabilities_sum_to_one_and_do_not_depend_on_the_batch(tiny: Path) -> None:
    segmenter = PointRendSegmenter(tiny, size_px=64)
    images = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3)).astype(np.uint8)
    found = segmenter.segment(images)
    assert found.shape == (3, len(CLASSES), 64, 64)
    assert found.dtype == np.float32
    assert np.allclose(found.sum(axis=1), 1.0, atol=1e-5)
    assert np.allclose(found[1:2], segmenter.segment(images[1:2]), atol=1e-5)


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((1, 64, 64, 3), np.float32),
        np.zeros((1, 64, 32, 3), np.uint8),
        np.zeros((64, 64, 3), np.uint8),
        np.zeros((1, 3, 64, 64), np.uint8),
    ],
)
def test_anything_but_square_rgb_is_refused(tiny: Path, images: np.ndarray) -> None:
    segmenter = PointRendSegmenter(tiny, size_px=64)
    with pytest.raises(ValueError, match="images must be uint8"):
        segmenter.segment(images)


def test_a_model_of_rgb_pictures_is_given_rgb(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes((tiny / "model.safetensors").read_bytes())
    content = yaml.safe_load((tiny / "config.yaml").read_text()) | {"INPUT": {"FORMAT": "RGB"}}
    content["MODEL"]["PIXEL_MEAN"] = content["MODEL"]["PIXEL_MEAN"][::-1]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(content))
    images = np.random.default_rng(1).integers(0, 256, (1, 64, 64, 3)).astype(np.uint8)
    as_bgr = PointRendSegmenter(tiny, size_px=64).segment(images)
    as_rgb = PointRendSegmenter(tmp_path, size_px=64).segment(images)
    assert not np.allclose(as_rgb, as_bgr, atol=1e-4)


def test_classes_and_size_that_do_not_fit_the_model_are_refused(tiny: Path) -> None:
    with pytest.raises(ConfigError, match="classes"):
        PointRendSegmenter(tiny, classes=("background", "skin"))
    with pytest.raises(ConfigError, match="multiple of 32"):
        PointRendSegmenter(tiny, size_px=100)


def test_a_folder_without_weights_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text((ROOT / "conf/pointrend/nano.yaml").read_text())
    with pytest.raises(WeightsError, match="holds none of"):
        PointRendSegmenter(tmp_path)


@pytest.mark.models
def test_the_shipped_segmenter_finds_lesions_and_features_of_people_it_never_saw(shared: Path) -> None:
    from inference.pointrend import evaluate

    segmenter = PointRendSegmenter(BUNDLE)
    held = evaluate.examples(shared / "data/portraits", limit=8)
    figures = evaluate.portraits(segmenter, held)
    assert figures["face crop"].iou["lesion"] >= 0.6
    assert figures["face crop"].feature_miou >= 0.7
    near = evaluate.close_ups(segmenter, held, pictures=24)
    assert min(near.recall.values()) >= 0.9
    assert evaluate.bare_skin(segmenter, pictures=8)["identity_share"] < 0.05
