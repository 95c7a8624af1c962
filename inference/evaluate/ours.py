"""Ano-Skin as a method: a bundle as it is, and its ablations as other bundles, pipelines, or a LoRA on its UNet."""

import shutil
import tempfile
import weakref
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from inference.anonymize import MaskOptions, Plan, paint, plan
from inference.bundle import MANIFEST, digest, read_bundle, seal
from inference.contract import Image, Models, Verifier
from inference.data.manifest import NORMAL, Photograph
from inference.evaluate.scene import Scene

ATTEMPTS = 6
"""Paintings of a photograph at most, as the gateway's setting has it."""


@dataclass(frozen=True, slots=True, eq=False)
class Treated:
    """One photograph as the bundle made it.

    Attributes
    ----------
    image
        uint8 RGB (H, W, 3).
    plan
        What was hidden and kept.
    similarity, excess
        Largest cosine to the original that the strictest verifier sees, NaN where it could not compare; how far that
        is above its limit, infinity where it could not.
    clear
        Every verifier sees somebody who is clearly another one.
    """

    image: Image
    plan: Plan
    similarity: float
    excess: float
    clear: bool


class AnoSkin:
    """A bundle's own masks and painting, tried again as the gateway does until its verifiers see somebody else.

    At most ``attempts`` paintings, of which the least similar is taken; where none passes, as many again without the
    margin about kept lesions. The gateway's further gates may hold a picture that this method gives out.

    Parameters
    ----------
    name
        As the report calls it.
    models
        The bundle's models.
    fingerprint
        Of the bundle's files.
    attempts
        Paintings; 1 is neither tried again nor with a smaller margin.
    """

    def __init__(self, name: str, models: Models, fingerprint: str, attempts: int = ATTEMPTS) -> None:
        self.name = name
        margins = [verifier.margin for verifier in models.verifiers]
        self.fingerprint = f"anoskin {fingerprint} attempts {attempts} margins {margins}"
        self._models = models
        self._attempts = max(1, attempts)

    def prepare(self, photographs: Sequence[Photograph]) -> None:
        """Nothing to look at."""

    def apply(self, scene: Scene) -> Image:
        """The face painted over as the bundle sees it; see :class:`inference.evaluate.methods.Method`."""
        return self.treat(scene).image

    def treat(self, scene: Scene) -> Treated:
        """The least similar of the paintings, with its plan.

        Raises
        ------
        inference.contract.Unavailable
            A model cannot answer now.
        """
        todo = plan(scene.image, self._models, MaskOptions())
        best = self._painted(scene, todo, 0)
        if best.excess >= 0 and self._attempts > 1 and todo.keep.any():
            less = plan(scene.image, self._models, MaskOptions(keep_margin=0.0), todo.faces)
            again = self._painted(scene, less, self._attempts)
            best = again if again.excess < best.excess else best
        return best

    def _painted(self, scene: Scene, todo: Plan, before: int) -> Treated:
        """The least similar of at most ``attempts`` paintings; ``before`` were made."""
        disease = scene.photograph.disease
        prompt = self._models.words("" if disease == NORMAL else disease)
        best: Treated | None = None
        for made in range(before, before + self._attempts):
            dice = (scene.seed + 15485863 * made) % 2**31
            result = paint(scene.image, todo, self._models.inpainter, prompt, dice)
            one = self._judged(scene.image, result, todo)
            if best is None or one.excess < best.excess:
                best = one
            if one.clear or not todo.hide.any():
                break
        assert best is not None
        return best

    def _judged(self, image: Image, result: Image, todo: Plan) -> Treated:
        cosines = [_cosine(verifier, image, result, todo) for verifier in self._models.verifiers]
        told = list(zip(cosines, self._models.verifiers, strict=True))
        excesses = [cosine - who.limit if np.isfinite(cosine) else np.inf for cosine, who in told]
        worst = int(np.argmax(excesses))
        clear = all(excess < -who.margin for excess, (_, who) in zip(excesses, told, strict=True))
        return Treated(result, todo, cosines[worst], float(excesses[worst]), clear)


def _cosine(verifier: Verifier, image: Image, result: Image, todo: Plan) -> float:
    """Largest cosine between original faces and the result, at the places of the faces of both.

    NaN where there is nothing to compare, or a cosine is no number.
    """
    before, after = [], []
    for face in todo.faces:
        with suppress(ValueError):
            before.append(verifier.analyser.embed(image, face.landmarks))
            after.append(verifier.analyser.embed(result, face.landmarks))
    for face in verifier.analyser.find(result):
        with suppress(ValueError):
            after.append(verifier.analyser.embed(result, face.landmarks))
    return float(np.max(np.stack(before) @ np.stack(after).T)) if before and after else float("nan")


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
    weights = "".join(digest(file) for file in sorted(variant.rglob("*.safetensors")))
    method = AnoSkin(name, models, f"{digest(bundle / MANIFEST)} {weights}", attempts)
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
