"""A bundle says of itself whether it was found good enough, and the word is void once anything changes."""

from datetime import date
from pathlib import Path

import pytest

from gateway.errors import Misconfigured
from gateway.treatment import build_treatment
from inference.bundle import read_bundle, seal, verify
from inference.contract import Models
from inference.signoff import NEVER, objection, sign

ROOT = Path(__file__).parents[2]
DAY = date(2026, 11, 25)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A bundle for production, whole as far as digests tell."""
    target = tmp_path / "bundle"
    for name in ("segmenter", "inpainter", "faces"):
        (target / name).mkdir(parents=True)
        (target / name / "weights.bin").write_bytes(name.encode())
    text = (ROOT / "bundles" / "nano" / "bundle.toml").read_text().partition("\n[files]\n")[0]
    (target / "bundle.toml").write_text(text.replace("demonstration = true", "demonstration = false"))
    verify(seal(target))
    return target


def demonstration(folder: Path) -> None:
    path = folder / "bundle.toml"
    path.write_text(path.read_text().replace("demonstration = false", "demonstration = true"))


def test_a_bundle_for_production_that_nobody_evaluated_is_objected_to(folder: Path) -> None:
    assert objection(read_bundle(folder)) == NEVER
    demonstration(folder)
    assert objection(read_bundle(folder)) == ""


def test_a_signature_holds_and_the_files_stay_listed(folder: Path) -> None:
    signed = sign(folder, "", DAY)
    verify(signed)
    assert objection(signed) == ""
    verify(seal(folder))
    assert objection(read_bundle(folder)) == "", "sealing unchanged files changes nothing"


def test_what_is_not_signed_says_why_demonstration_or_not(folder: Path) -> None:
    assert (
        objection(sign(folder, 'only 0.9 unrecognised, "0.95" asked', DAY))
        == 'only 0.9 unrecognised, "0.95" asked'
    )
    demonstration(folder)
    assert objection(read_bundle(folder)).startswith("only 0.9")


@pytest.mark.parametrize("change", ["weights", "limit", "new file"])
def test_a_signature_is_void_once_anything_changes(folder: Path, change: str) -> None:
    sign(folder, "", DAY)
    path = folder / "bundle.toml"
    if change == "weights":
        (folder / "faces" / "weights.bin").write_bytes(b"others")
    elif change == "limit":
        path.write_text(path.read_text().replace("similarity_limit = 0.43", "similarity_limit = 0.9"))
    else:
        (folder / "faces" / "more.bin").write_bytes(b"more")
    assert objection(seal(folder)) == "it was changed after it was signed off"


def test_a_later_word_replaces_an_earlier_one_and_keeps_the_rest(folder: Path) -> None:
    before = (folder / "bundle.toml").read_text()
    sign(folder, "too soft", DAY)
    assert objection(sign(folder, "", DAY)) == ""
    text = (folder / "bundle.toml").read_text()
    assert text.count("[sign_off]") == 1
    head, _, files = before.partition("\n[files]\n")
    assert text.startswith(head)
    assert text.endswith(files)


@pytest.mark.parametrize("said", ["sign_off = true", "[sign_off]\nsigned = 1", "[sign_off]"])
def test_a_word_that_cannot_be_understood_is_a_no(folder: Path, said: str) -> None:
    path = folder / "bundle.toml"
    text = path.read_text()
    path.write_text(
        f"{said}\n{text}"
        if said.startswith("sign")
        else text.replace("\n[files]\n", f"\n{said}\n\n[files]\n")
    )
    assert objection(read_bundle(folder)) == "its sign-off says no"


def test_serving_refuses_models_that_are_objected_to(tmp_path: Path) -> None:
    models = Models("site 1", False, *(None,) * 3, {}, (), 0.5, {"": "a face"}, objection="too soft")
    with pytest.raises(Misconfigured, match="site 1 is not signed off: too soft"):
        build_treatment(None, models)
