"""A bundle is used only when every file is the one its manifest lists."""

import shutil
from pathlib import Path

import pytest

from inference.bundle import BundleError, read_bundle, seal, verify

NANO = Path(__file__).parents[2] / "bundles" / "nano"


@pytest.fixture
def bundle(tmp_path):
    folder = tmp_path / "copy"
    (folder / "faces").mkdir(parents=True)
    shutil.copy(NANO / "bundle.toml", folder)
    (folder / "faces" / "detector.onnx").write_bytes(b"weights")
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


def test_an_unknown_role_is_refused(bundle):
    manifest = bundle / "bundle.toml"
    manifest.write_text(manifest.read_text().replace('skin = "identity"', 'skin = "secret"'))
    with pytest.raises(BundleError, match="unknown roles"):
        read_bundle(bundle)
