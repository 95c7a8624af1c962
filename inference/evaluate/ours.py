"""Ano-Skin as a method: a bundle as it is, and its ablations as other bundles or as a LoRA on the first one's UNet."""

import shutil
import tempfile
import weakref
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from inference.anonymize import MaskOptions, Plan, paint, plan
from inference.bundle import MANIFEST, digest, read_bundle, seal
from inference.contract import Image, Models
from inference.data.manifest import Photograph
from inference.evaluate.scene import Scene


class AnoSkin:
    """A bundle's own masks and painting; what its verifier still recognises is painted again with other seeds.

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

    def __init__(self, name: str, models: Models, fingerprint: str, attempts: int = 3) -> None:
        self.name = name
        self.fingerprint = f"anoskin {fingerprint} attempts {attempts}"
        self._models = models
        self._attempts = max(1, attempts)

    def prepare(self, photographs: Sequence[Photograph]) -> None:
        """Nothing to look at."""

    def apply(self, scene: Scene) -> Image:
        """The face painted over as the bundle sees it; see :class:`inference.evaluate.methods.Method`."""
        image, models = scene.image, self._models
        prompt = models.prompts.get(scene.photograph.disease, models.prompts[""])
        todo = plan(image, models, MaskOptions())
        best: Image | None = None
        least = np.inf
        for attempt in range(self._attempts):
            result = paint(image, todo, models.inpainter, prompt, (scene.seed + 15485863 * attempt) % 2**31)
            similarity = _similarity(image, result, todo, models)
            if best is None or similarity < least:
                best, least = result, similarity
            if similarity < models.similarity_limit:
                break
        assert best is not None
        return best


def _similarity(image: Image, result: Image, todo: Plan, models: Models) -> float:
    """Largest cosine between an original face and the result at its landmarks; −1 where nothing can be compared.

    One that is no number is the result.
    """
    cosines = [-1.0]
    for face in todo.faces:
        with suppress(ValueError):
            before = models.faces.embed(image, face.landmarks)
            cosines.append(float(before @ models.faces.embed(result, face.landmarks)))
    return float(np.max(cosines))


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
