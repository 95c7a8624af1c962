"""Ano-Skin as a method: a bundle as it is, and its ablations as other bundles, pipelines, or a LoRA on its UNet."""

import shutil
import tempfile
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from inference.anonymize import MaskOptions, plan, uncovered
from inference.bundle import MANIFEST, contents, digest, read_bundle, seal
from inference.contract import Image, Models
from inference.data.manifest import NORMAL, Photograph
from inference.disguise import SMALLER_KEEP, Asked, Painting, disguised
from inference.evaluate.methods import Withheld
from inference.evaluate.scene import Scene

ATTEMPTS = 6
"""Paintings of a photograph at most, as the gateway's setting has it."""


@dataclass(frozen=True, slots=True, eq=False)
class Treated:
    """One photograph as the bundle made it.

    Attributes
    ----------
    painting
        The one taken, with what was hidden and kept and how like the original it is.
    held
        Why the gateway would not let it go, in the words of its gates; empty where it would.
    """

    painting: Painting
    held: str


class AnoSkin:
    """A bundle's own masks and painting, tried again as the gateway does until its verifiers see somebody else.

    What the gateway's gates about pixels would hold is withheld: of what leaves a hospital the figures tell. One that
    paints but once and is not asked (``attempts`` of 1) shows what the painting alone does.

    Parameters
    ----------
    name
        As the report calls it.
    models
        The bundle's models.
    fingerprint
        Of the bundle's files.
    attempts
        Paintings at most, as many again with a smaller margin about lesions; 1 is one, and nothing is withheld.
    masks
        How masks are made.
    """

    def __init__(
        self,
        name: str,
        models: Models,
        fingerprint: str,
        attempts: int = ATTEMPTS,
        masks: MaskOptions | None = None,
    ) -> None:
        self.name = name
        self._models = models
        self._attempts = max(1, attempts)
        self._masks = masks or MaskOptions()
        margins = [verifier.margin for verifier in models.verifiers]
        self.fingerprint = f"anoskin {fingerprint} attempts {attempts} margins {margins} {self._masks}"

    def prepare(self, photographs: Sequence[Photograph]) -> None:
        """Nothing to look at."""

    def apply(self, scene: Scene) -> Image:
        """The face painted over as the bundle sees it; see :class:`inference.evaluate.methods.Method`."""
        treated = self.treat(scene)
        if treated.held and self._attempts > 1:
            raise Withheld(treated.held)
        return treated.painting.image

    def treat(self, scene: Scene) -> Treated:
        """The least similar of the paintings, and whether it might leave.

        Raises
        ------
        inference.contract.Unavailable
            A model cannot answer now.
        """
        image, models = scene.image, self._models
        todo = plan(image, models, self._masks)
        disease = scene.photograph.disease
        asked = Asked(image, image, models.words("" if disease == NORMAL else disease), scene.seed)
        less = partial(plan, image, models, replace(self._masks, keep_margin=SMALLER_KEEP), todo.faces)
        again = less if self._attempts > 1 else None
        best = disguised(asked, todo, models, self._attempts, again)
        return Treated(best, self._held(image, best))

    def _held(self, image: Image, best: Painting) -> str:
        """The first gate about pixels that would hold it: one clause each of :mod:`gateway.release`."""
        if uncovered(image, best.plan, self._models):
            return "coverage"
        if best.plan.doubtful:
            return "doubtful-face"
        if not best.plan.faces and not best.plan.features.any() and not best.plan.hide.any():
            return ""
        if best.likeness.cosine is None:
            return "unverified"
        return "" if best.passes else "similarity"


def load(name: str, bundle: Path, variant: Path | None = None, attempts: int = ATTEMPTS) -> AnoSkin:
    """The bundle, or a variant of it: another bundle, a whole pipeline for its inpainter, or a LoRA for its UNet.

    Pipelines are folders as diffusers saves them, a LoRA as peft or diffusers does.

    Raises
    ------
    BundleError
        A bundle is not whole, or the variant is none of these.
    """
    from inference.local import load_models

    if variant is None or (variant / MANIFEST).is_file():
        folder = variant or bundle
        return AnoSkin(name, load_models(folder, threads=1), digest(folder / MANIFEST), attempts)
    place = tempfile.TemporaryDirectory()
    models = load_models(_with(bundle, variant, Path(place.name) / "bundle"), threads=1)
    method = AnoSkin(name, models, f"{digest(bundle / MANIFEST)} {contents(variant)}", attempts)
    # Some models read their files when they are first used: the folder stays as long as the method.
    weakref.finalize(method, place.cleanup)
    return method


def _with(bundle: Path, variant: Path, out: Path) -> Path:
    """A copy of the bundle with this pipeline as its inpainter, or with this LoRA fused into it."""
    from inference.inpaint.importing import fuse_lora
    from inference.inpaint.inpainter import load_pipeline

    shutil.copytree(bundle, out)
    folder = out / read_bundle(bundle).inpainter["folder"]
    if (variant / "model_index.json").is_file():
        shutil.rmtree(folder)
        shutil.copytree(variant, folder)
    else:
        pipeline = load_pipeline(folder)
        fuse_lora(pipeline, variant, 1.0)
        pipeline.save_pretrained(folder)
    seal(out)
    return out
