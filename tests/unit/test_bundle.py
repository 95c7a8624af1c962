"""A bundle is used only when every file is the one its manifest lists."""

import shutil
from pathlib import Path

import pytest

from inference.bundle import BundleError, read_bundle, seal, verify
from inference.contract import CLASSES, Models

NANO = Path(__file__).parents[2] / "bundles" / "nano"


@pytest.fixture
def bundle(tmp_path):
    folder = tmp_path / "copy"
    for part, name in (("faces", "detector.onnx"), ("segmenter", "config.yaml"), ("inpainter", "weights")):
        (folder / part).mkdir(parents=True)
        (folder / part / name).write_bytes(b"weights")
    shutil.copy(NANO / "bundle.toml", folder)
    seal(folder)
    return folder


def test_the_shipped_bundle_is_whole_and_small():
    bundle = read_bundle(NANO)
    verify(bundle)
    assert bundle.demonstration
    assert sum((NANO / name).stat().st_size for name in bundle.files) <= 40e6


def test_a_sealed_bundle_verifies(bundle):
    verify(read_bundle(bundle))


def test_a_changed_file_is_refused(bundle):
    (bundle / "faces" / "detector.onnx").write_bytes(b"Weights")
    with pytest.raises(BundleError, match=r"faces/detector\.onnx is missing or is not the file"):
        verify(read_bundle(bundle))


def test_a_missing_file_is_refused(bundle):
    (bundle / "faces" / "detector.onnx").unlink()
    with pytest.raises(BundleError, match="missing"):
        verify(read_bundle(bundle))


def test_a_file_nobody_listed_is_refused(bundle):
    (bundle / "faces" / "other.onnx").write_bytes(b"x")
    with pytest.raises(BundleError, match="not listed"):
        verify(read_bundle(bundle))


def test_no_bundle_is_one_clear_sentence(tmp_path):
    with pytest.raises(BundleError, match=r"Set \[models\] bundle"):
        read_bundle(tmp_path)


@pytest.mark.parametrize(
    ("was", "becomes", "message"),
    [
        ('skin = "identity"', 'skin = "secret"', "unknown roles"),
        ('nose = "identity"', 'snout = "identity"', "has no nose among its features"),
        ('eye = "identity"', 'eye = "context"', "has no eye among its features"),
        ('"eye", "nose", "mouth"]', '"nose"]', "has no eye, mouth among its features"),
        ('brow = "identity"', 'brow = "context"', "every feature .* needs a line"),
        ('lesion = "lesion"', 'lesion = "context"', "no lesion would stay"),
        ('kind = "pointrend"', 'kind = "pointrend"\nsize_px = 250', "multiple of 32"),
        ('kind = "diffusers"', 'kind = "diffusers"\nscheduler = "euler"', "dpmsolver.* or unipc"),
        ('kind = "diffusers"', 'kind = "diffusers"\nreuse = 0', "1 or more"),
        ("guidance = 1.0", "guidance = nan", "0 or more"),
        ("steps = 20", 'steps = "many"', "lacks or misspells"),
        ("[prompts]", '[prompts]\ntemplate = "a face"', "template needs"),
        ('default = "', 'defalt = "', "needs 'default'"),
    ],
)
def test_a_manifest_that_asks_for_what_cannot_be_is_refused_in_one_sentence(bundle, was, becomes, message):
    manifest = bundle / "bundle.toml"
    text = manifest.read_text()
    assert was in text
    manifest.write_text(text.replace(was, becomes))
    with pytest.raises(BundleError, match=message) as refused:
        read_bundle(bundle)
    assert "\n" not in str(refused.value)


def test_a_bundle_that_lacks_a_part_is_not_whole(bundle):
    shutil.rmtree(bundle / "inpainter")
    seal(bundle)
    with pytest.raises(BundleError, match="the inpainter is not there yet"):
        verify(read_bundle(bundle))


def test_classes_stand_in_the_order_of_the_manifest(bundle):
    assert read_bundle(bundle).classes == CLASSES


def test_the_painter_is_told_what_disease_there_is_or_what_the_site_says():
    known = {"": "a face", "acne": "a face with acne", "template": "a face with {disease}, red"}
    models = Models("b 1", True, *(None,) * 3, {}, (), 0.5, known)
    assert models.words() == "a face"
    assert models.words("Acne") == "a face with acne"
    assert models.words("rosacea") == "a face with rosacea, red"
    assert models.words("rosacea", "skin, {disease}") == "skin, rosacea"
    assert models.words("template") == "a face with template, red"
    without = Models("b 1", True, *(None,) * 3, {}, (), 0.5, {"": "a face"})
    assert without.words("rosacea") == "a face"
