"""Whether a bundle is good enough to be signed off: figures on photographs that no training saw, against limits.

Shape letters: H × W native size.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from inference.bundle import MANIFEST, Bundle, BundleError, read_bundle, verify
from inference.contract import CLASSES
from inference.data.manifest import Photograph, read
from inference.evaluate import card, ours
from inference.evaluate.identity import Identity, Judge, judges
from inference.evaluate.looks import Looks
from inference.evaluate.metrics import Lesions, Means, Seams, Seconds
from inference.evaluate.scene import Scene, open_scene
from inference.evaluate.statistics import Figure
from inference.faces.analyser import PackUnusable
from inference.recipe import RecipeError, recipe
from inference.signoff import objection, sign

FIGURES = "evaluation.json"
"""What was found, in the bundle's folder; one of its listed files."""
FEATURES = [CLASSES.index(name) for name in ("brow", "eye", "nose", "mouth")]
DISTRACTORS = 100
"""Patients of other splits at most, among whom a judge sets its thresholds."""
RATE = 0.001
"""False accept rate at which a judge has to fail."""
IDENTITY = (f"unrecognised at {RATE:g}", "unrecognised at 0.01", "rank-1", "cosine")
"""What is told of each judge."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a bundle is evaluated on and what it has to reach; the table ``[evaluation]`` of a recipe.

    Attributes
    ----------
    data
        Manifest of photographs, whose split ``test`` no training saw.
    before
        Folder of the bundle it began with, evaluated beside it; empty: none.
    judges
        Face packs that no bundle uses; without any, the bundle's own pack judges.
    photographs
        Of the split at most, evenly taken.
    least_photographs
        Fewer prove nothing.
    least_found
        Share of the photographs with labelled features in which a face is found.
    least_covered
        Share of the labelled pixels of brows, eyes, noses and mouths that is hidden or kept as lesion.
    least_unrecognised
        Share that the judge who recognises most does not recognise at a false accept rate of 1e-3.
    least_lesion
        Share of the labelled lesion pixels that stays as photographed.
    """

    data: str = ""
    before: str = ""
    judges: tuple[str, ...] = ()
    photographs: int = 60
    least_photographs: int = 20
    least_found: float = 0.95
    least_covered: float = 0.98
    least_unrecognised: float = 0.95
    least_lesion: float = 0.5


class Masks(Means):
    """What the plan of a bundle hides, against the manifest's labels, and whether the rest is untouched.

    ``found``: a face was found, where features are labelled. ``covered``: share of their pixels hidden or kept.
    ``outside``: every pixel that is not hidden is identical. ``compared``: the bundle's verifier could tell how like
    the result is.
    """

    name = "masks"

    def note_treated(self, scene: Scene, treated: ours.Treated) -> None:
        """Take one photograph into account."""
        labelled = np.isin(scene.labels, FEATURES)
        image, todo = treated.painting.image, treated.painting.plan
        dealt_with = todo.hide | todo.keep
        unknown = not labelled.any()
        self.note(
            scene,
            found=float("nan") if unknown else float(bool(todo.faces)),
            covered=float("nan") if unknown else float(dealt_with[labelled].mean()),
            outside=float(not ((image != scene.image).any(-1) & ~todo.hide).any()),
            compared=float("nan") if unknown else float(np.isfinite(treated.painting.likeness.excess)),
        )


def asked_by_recipe(file: Path, data: Path | None, before: Path | None, judges: Sequence[Path]) -> Wanted:
    """The table ``[evaluation]`` of a recipe, whose paths start at its own folder; what is given goes before them.

    Raises
    ------
    inference.recipe.RecipeError
        A key is unknown or misspelt, or no data are named.
    inference.data.DataError
        The data cannot be read, or have no split test.
    """
    said = recipe(Wanted, file, "evaluation")
    here = file.resolve().parent
    if data is None and not said.data:
        raise RecipeError(
            f"{file.name}: [evaluation] data is for the site to fill in, or give --data: photographs no training saw."
        )
    wanted = data or here / said.data
    read(wanted, "test")
    return replace(
        said,
        data=str(wanted),
        before=str(before or (here / said.before if said.before else "")),
        judges=tuple(str(one) for one in (judges or [here / one for one in said.judges])),
    )


def asked_of(bundle: Bundle, data: Path, before: Path | None, judges: Sequence[Path]) -> Wanted:
    """The limits in a bundle's manifest, on photographs that are given.

    Raises
    ------
    inference.recipe.RecipeError
        A key is unknown or misspelt.
    """
    said = recipe(Wanted, bundle.folder / MANIFEST, "evaluation")
    return replace(said, data=str(data), before=str(before or ""), judges=tuple(str(one) for one in judges))


def sign_off(folder: Path, asked: Wanted, day: date) -> str:
    """Evaluate the bundle, write figures and model card into it, and sign it off; why not, empty where it is signed.

    Raises
    ------
    BundleError
        A bundle is not whole or cannot run here.
    inference.data.DataError
        The manifest is wrong or has no photographs to test by, or a face pack cannot judge.
    inference.contract.Unavailable
        A model cannot answer now.
    """
    bundle = read_bundle(folder)
    verify(bundle)
    tested, others = _chosen(Path(asked.data), asked.photographs)
    earlier = read_bundle(Path(asked.before)) if asked.before else None
    figures = measure(folder, tested, others, asked.judges)
    before = measure(earlier.folder, tested, others, asked.judges) if earlier else {}
    reasons = unmet(figures, len(tested), asked)
    said: dict[str, Any] = {
        "date": day.isoformat(),
        "bundle": bundle.title,
        "photographs": len(tested),
        "patients": len({one.patient for one in tested}),
        "diseases": sorted({one.disease for one in tested}),
        "judges": [Path(one).name for one in asked.judges] or ["the bundle's own face pack"],
        "limits": {name: value for name, value in asdict(asked).items() if name.startswith("least_")},
        "unmet": reasons,
        "figures": _plain(figures),
        "before": {"bundle": earlier.title, "figures": _plain(before)} if earlier else None,
    }
    text = json.dumps(said, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    (folder / FIGURES).write_text(text, encoding="utf-8")
    signed = sign(folder, "; ".join(reasons), day)
    (folder / card.NAME).write_text(card.card(signed, said), encoding="utf-8")
    return objection(signed) or "; ".join(reasons)


def measure(
    folder: Path, tested: Sequence[Photograph], others: Sequence[Photograph], judges: Sequence[str]
) -> dict[str, Figure]:
    """Every figure of the bundle in ``folder``, by name, each with its interval over patients."""
    bundle = read_bundle(folder)
    method = ours.load(bundle.title, folder)
    masks, seconds, lesions, seams = Masks(), Seconds(), Lesions(), Seams()
    known = [Identity(judge) for judge in _judges(bundle, tested, others, judges)]
    for photograph in tested:
        scene = open_scene(photograph)
        begun = time.perf_counter()
        treated = method.treat(scene)
        image = treated.painting.image
        seconds.update(scene, image, time.perf_counter() - begun)
        masks.note_treated(scene, treated)
        lesions.update(scene, image, 0.0)
        seams.update(scene, image, 0.0)
        for identity in known:
            identity.update(scene, image, 0.0)
    found: dict[str, Figure] = {}
    for means in (masks, lesions, seams, seconds):
        found |= means.compute().figures
    for identity in known:
        said = identity.compute().figures
        found |= {
            f"{name}, {identity.name.partition(' ')[2]}": said[name] for name in IDENTITY if name in said
        }
    return found


def unmet(figures: Mapping[str, Figure], photographs: int, asked: Wanted) -> list[str]:
    """The limits that are not met, one clause each; a figure that is missing or no number meets none."""
    recognisers = [
        figure.value for name, figure in figures.items() if name.startswith(f"unrecognised at {RATE:g},")
    ]
    unrecognised = float(np.min(recognisers)) if recognisers else float("nan")  # NaN wins, and meets no limit
    compared = (
        ("photographs", float(photographs), float(asked.least_photographs)),
        ("share untouched outside of what is hidden", _value(figures, "outside"), 1.0),
        ("share compared by the bundle's verifier", _value(figures, "compared"), asked.least_found),
        ("share of faces found", _value(figures, "found"), asked.least_found),
        ("features covered", _value(figures, "covered"), asked.least_covered),
        (f"share unrecognised at {RATE:g}", unrecognised, asked.least_unrecognised),
        ("lesion kept", _value(figures, "lesion_identical"), asked.least_lesion),
    )
    return [f"{name} {value:.4g}, {limit:g} asked" for name, value, limit in compared if not value >= limit]


def _value(figures: Mapping[str, Figure], name: str) -> float:
    return figures[name].value if name in figures else float("nan")


def _chosen(data: Path, most: int) -> tuple[list[Photograph], list[Photograph]]:
    """Photographs of the split test, evenly taken, and one of each of some other patients."""
    tested = read(data, "test")
    others = {one.patient: one for one in read(data) if one.split != "test"}
    return _evenly(tested, most), _evenly(list(others.values()), DISTRACTORS)


def _evenly(photographs: Sequence[Photograph], most: int) -> list[Photograph]:
    if len(photographs) <= most:
        return list(photographs)
    return [photographs[index] for index in np.linspace(0, len(photographs) - 1, most).round().astype(int)]


def _judges(
    bundle: Bundle, tested: Sequence[Photograph], others: Sequence[Photograph], packs: Sequence[str]
) -> list[Judge]:
    folders = [Path(one) for one in packs] or [bundle.folder / str(bundle.faces["folder"])]
    try:
        return judges(folders, tested, others, Looks())
    except (PackUnusable, ValueError) as error:
        raise BundleError(f"These face packs cannot judge {bundle.title}: {error}.") from error


def _plain(figures: Mapping[str, Figure]) -> dict[str, dict[str, float | None]]:
    return {
        name: {end: value if np.isfinite(value) else None for end, value in asdict(figure).items()}
        for name, figure in figures.items()
    }
