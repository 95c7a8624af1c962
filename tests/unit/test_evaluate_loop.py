"""What a method withholds is in no figure but its own; the bundle withholds what the gateway would hold."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from evaluation import scene, written

from inference.contract import Image
from inference.data.manifest import Photograph
from inference.evaluate import compare, methods, ours, plots
from inference.evaluate.loop import Results, evaluate
from inference.evaluate.metrics import Lesions, Seams
from inference.evaluate.scene import Scene, open_scene
from inference.local import load_models

BUNDLE = Path("bundles/nano")


class Choosy:
    """Gives out what its list names, black, and counts how often it is asked."""

    def __init__(self, gives: Sequence[str], name: str = "choosy") -> None:
        self.name = self.fingerprint = name
        self._gives = gives
        self.asked = 0

    def prepare(self, photographs: Sequence[Photograph]) -> None:
        """Nothing."""

    def apply(self, shown: Scene) -> Image:
        """Black, or withheld."""
        self.asked += 1
        if shown.name not in self._gives:
            raise methods.Withheld("similarity")
        return methods.masked(shown)


def test_what_is_withheld_is_in_no_figure_but_its_own(tmp_path: Path) -> None:
    photographs = written(tmp_path, [1, 2, 3, 4], ["test"] * 4, ["acne"] * 4)
    names = [one.name for one in photographs]
    most, other = Choosy(names[:3]), Choosy(names[1:], "other")
    results = Results(tmp_path / "results")
    found = evaluate([most, other], photographs, [Lesions(), Seams()], results)
    for one in found:
        assert one.measured["leaving"].figures["withheld"].value == 0.25
        assert one.measured["leaving"].figures["held: similarity"].value == 0.25
    assert list(found[0].measured["lesions"].pictures) == names[:3]
    assert len(found[0].measured["seams"].series["seam"]) == 3

    again = evaluate([most], photographs, [Lesions(), Seams()], results)
    assert most.asked == 4  # what was withheld is remembered as well
    assert again[0].measured["lesions"].figures == found[0].measured["lesions"].figures

    everything = evaluate([Choosy(names, "all")], photographs, [Seams()], results)[0]
    apart = compare.differences(found[0], everything)
    assert apart["seams: seam"].value == 0  # of the three pictures that both gave out
    plots.sheet(most, photographs, results, tmp_path / "sheet.jpg")
    assert (tmp_path / "sheet.jpg").stat().st_size > 0


def test_only_pictures_that_both_gave_out_are_compared(tmp_path: Path) -> None:
    photographs = written(tmp_path, [1, 2], ["test"] * 2, ["acne"] * 2)
    first, second = (one.name for one in photographs)
    found = evaluate(
        [Choosy([first], "a"), Choosy([second], "b")], photographs, [Seams()], Results(tmp_path / "results")
    )
    assert not [name for name in compare.differences(*found) if name.startswith("seams")]


@pytest.mark.parametrize("suffix", [".json", ".png"])
def test_a_kept_result_that_is_damaged_is_made_again(tmp_path: Path, suffix: str) -> None:
    (photograph,) = written(tmp_path, [1], ["test"], ["acne"])
    method, results, shown = Choosy([photograph.name]), Results(tmp_path / "results"), open_scene(photograph)
    made = results.of(method, shown).image
    (file,) = (tmp_path / "results").rglob(f"*{suffix}")
    whole = file.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2]):
        file.write_bytes(damaged)
        asked = method.asked
        again = results.of(method, shown).image
        assert method.asked == asked + 1
        assert made is not None
        assert again is not None
        assert (again == made).all()
        assert (results.of(method, shown).image == made).all()
        assert method.asked == asked + 1  # it is whole again, and kept


@pytest.mark.models
def test_a_face_that_is_still_recognised_is_withheld() -> None:
    face = np.asarray(skimage.data.astronaut()[:256, 96:352], np.uint8)
    shown = Scene(scene().photograph, face, np.zeros(face.shape[:2], np.uint8))
    strict = replace(load_models(BUNDLE, threads=1), similarity_limit=-1.0)
    with pytest.raises(methods.Withheld, match="similarity"):
        ours.AnoSkin("anoskin", strict, "", attempts=2).apply(shown)
    once = ours.AnoSkin("anoskin-once", strict, "", attempts=1)
    assert once.treat(shown).held == "similarity"
    assert (once.apply(shown) != face).any()


def test_results_are_told_apart_by_how_masks_are_made() -> None:
    models = load_models(BUNDLE, threads=1)
    wide, narrow = (
        ours.AnoSkin("anoskin", models, "", masks=ours.MaskOptions(hide_margin=m)) for m in (0.15, 0.05)
    )
    assert wide.fingerprint != narrow.fingerprint
