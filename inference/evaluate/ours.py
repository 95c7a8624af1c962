"""Ano-Skin as a method: a bundle as it is, and its ablations as other bundles or as a LoRA on the first one's UNet."""

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
from inference.contract import Image, Models
from inference.data.manifest import NORMAL, Photograph
from inference.evaluate.scene import Scene

ATTEMPTS = 6
"""Paintings of a photograph at most, as the gateway's setting has it."""
SURELY_UNLIKE = 0.15
"""So far below the limit a cosine has to be for no further painting to be tried."""


@dataclass(frozen=True, slots=True, eq=False)
class Treated:
    """One photograph as the bundle made it.

    Attributes
    ----------
    image
        uint8 RGB (H, W, 3).
    plan
        What was hidden and kept.
    similarity
        Largest cosine that the bundle's verifiers see to the original; NaN where they could not compare.
    """

    image: Image
    plan: Plan
    similarity: float


class AnoSkin:
    """A bundle's own masks and painting; painted again with other seeds until its verifiers see somebody else.

    The gateway's further gates may hold a picture that this method gives out.

    Parameters
    ----------
    name
        As the report calls it.
    models
        The bundle's models.
    fingerprint
        Of the bundle's files.
    attempts
        Paintings at most.
    """

    def __init__(self, name: str, models: Models, fingerprint: str, attempts: int = ATTEMPTS) -> None:
        self.name = name
        self.fingerprint = f"anoskin {fingerprint} attempts {attempts} sure {SURELY_UNLIKE}"
        self._models = models
        self._attempts = max(1, attempts)

    def prepare(self, photographs: Sequence[Photograph]) -> None:
        """Nothing to look at."""

    def apply(self, scene: Scene) -> Image:
        """The face painted over as the bundle sees it; see :class:`inference.evaluate.methods.Method`."""
        return self.treat(scene).image

    def treat(self, scene: Scene) -> Treated:
        """The least like of the paintings, with its plan and how like it is.

        Raises
        ------
        inference.contract.Unavailable
            A model cannot answer now.
        """
        image, models = scene.image, self._models
        disease = scene.photograph.disease
        prompt = models.words("" if disease == NORMAL else disease)
        todo = plan(image, models, MaskOptions())
        best: Treated | None = None
        least = np.inf
        for attempt in range(self._attempts):
            result = paint(image, todo, models.inpainter, prompt, (scene.seed + 15485863 * attempt) % 2**31)
            similarity, excess = _likeness(image, result, todo, models)
            if best is None or excess < least:
                best, least = Treated(result, todo, similarity), excess
            if excess < -SURELY_UNLIKE or not todo.hide.any():
                break
        assert best is not None
        return best


def _likeness(image: Image, result: Image, todo: Plan, models: Models) -> tuple[float, float]:
    """Largest cosine between original faces and the result, and how far it is above the limit of who saw it.

    Compared at the places of the original's faces and of those found in the result. NaN and infinity where there is
    nothing to compare, or a cosine is no number.
    """
    found = []
    for verifier in models.verifiers:
        analyser = verifier.analyser
        before, after = [], []
        for face in todo.faces:
            with suppress(ValueError):
                before.append(analyser.embed(image, face.landmarks))
                after.append(analyser.embed(result, face.landmarks))
        for face in analyser.find(result):
            with suppress(ValueError):
                after.append(analyser.embed(result, face.landmarks))
        cosine = float(np.max(np.stack(before) @ np.stack(after).T)) if before and after else np.nan
        found.append((cosine, cosine - verifier.limit if np.isfinite(cosine) else np.inf))
    return max(found, key=lambda one: one[1])


def load(name: str, bundle: Path, variant: Path | None = None) -> AnoSkin:
    """The bundle, or a variant of it: another bundle's folder, or a LoRA as peft or diffusers saves it.

    Raises
    ------
    BundleError
        A bundle is not whole, or the variant is neither.
    """
    from inference.local import load_models

    if variant is None or (variant / MANIFEST).is_file():
        folder = variant or bundle
        return AnoSkin(name, load_models(folder, threads=1), digest(folder / MANIFEST))
    place = tempfile.TemporaryDirectory()
    models = load_models(_fused(bundle, variant, Path(place.name) / "bundle"), threads=1)
    weights = "".join(digest(file) for file in sorted(variant.glob("*.safetensors")))
    method = AnoSkin(name, models, f"{digest(bundle / MANIFEST)} {weights}")
    # Some models read their files when they are first used: the folder stays as long as the method.
    weakref.finalize(method, place.cleanup)
    return method


def _fused(bundle: Path, lora: Path, out: Path) -> Path:
    """A copy of the bundle with the LoRA fused into its inpainter."""
    from inference.inpaint.importing import fuse_lora
    from inference.inpaint.inpainter import load_pipeline

    shutil.copytree(bundle, out)
    folder = out / read_bundle(bundle).inpainter["folder"]
    pipeline = load_pipeline(folder)
    fuse_lora(pipeline, lora, 1.0)
    pipeline.save_pretrained(folder)
    seal(out)
    return out
