"""Plain inpainting, as it is commonly used: Stable Diffusion 2, Dreamlike and Stable Diffusion XL from local folders.

The pipeline is given the whole photograph and a mask of the face without its lesions, and what it returns is the
result: all pixels go through the autoencoder, none is pasted back. Shape letters: H × W native size, S the model's
side.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from safetensors import SafetensorError

from inference.bundle import contents
from inference.contract import Image
from inference.data import DataError
from inference.data.manifest import NORMAL, Photograph
from inference.evaluate.scene import Scene

STEPS = 50
GUIDANCE = 7.5


@dataclass(frozen=True, slots=True)
class Painter:
    """A pipeline that is compared, and what to fetch for it."""

    title: str
    repository: str
    licence: str

    def fetch(self, name: str) -> str:
        """What to do where the weights are missing, in one sentence."""
        return (
            f"{name} needs {self.title} as a diffusers folder: fetch {self.repository} ({self.licence}) and give its "
            f"folder as --weights {name}=FOLDER."
        )


PAINTERS = {
    "sd2": Painter(
        "Stable Diffusion 2 inpainting",
        "sd2-community/stable-diffusion-2-inpainting",
        "CreativeML Open RAIL++-M",
    ),
    "dreamlike": Painter(
        "Dreamlike Photoreal 2.0", "dreamlike-art/dreamlike-photoreal-2.0", "modified CreativeML Open RAIL-M"
    ),
    "sdxl": Painter(
        "Stable Diffusion XL inpainting",
        "diffusers/stable-diffusion-xl-1.0-inpainting-0.1",
        "CreativeML Open RAIL++-M",
    ),
}


class PlainInpainting:
    """A diffusers inpainting pipeline on the whole photograph.

    Parameters
    ----------
    name
        Key of :data:`PAINTERS`.
    folder
        As ``save_pretrained`` writes it. UNets of four channels (text to image) and of nine both inpaint.
    steps, guidance
        Denoising steps and classifier-free guidance; diffusers' own usual values by default.

    Raises
    ------
    DataError
        The folder is no pipeline that can inpaint.
    """

    def __init__(
        self, name: str, folder: Path | None, *, steps: int = STEPS, guidance: float = GUIDANCE
    ) -> None:
        from diffusers import AutoPipelineForInpainting

        if folder is None or not (folder / "model_index.json").is_file():
            raise DataError(PAINTERS[name].fetch(name))
        self.name = name
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            # bfloat16, because attention in half precision gives black pictures with Stable Diffusion 2
            pipeline = AutoPipelineForInpainting.from_pretrained(
                folder,
                dtype=torch.bfloat16 if self._device == "cuda" else torch.float32,
                local_files_only=True,
            )
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
            raise DataError(
                f"{folder} holds no pipeline that can inpaint, or a damaged one. {PAINTERS[name].fetch(name)}"
            ) from error
        if getattr(pipeline, "safety_checker", None) is not None:
            pipeline.safety_checker = None  # takes clinical pictures of skin for nudity and blackens them
        pipeline.set_progress_bar_config(disable=True)
        self._pipeline: Any = pipeline.to(self._device)
        self._steps, self._guidance = steps, guidance
        self.fingerprint = f"{name} {contents(folder)} steps {steps} guidance {guidance}"

    def prepare(self, photographs: Sequence[Photograph]) -> None:
        """Nothing to look at."""

    @torch.inference_mode()
    def apply(self, scene: Scene) -> Image:
        """What the pipeline gives back, at native size; see :class:`inference.evaluate.methods.Method`."""
        height, width = scene.image.shape[:2]
        side = int(self._pipeline.unet.config.sample_size) * int(self._pipeline.vae_scale_factor)
        step = int(self._pipeline.vae_scale_factor) * 2 ** (
            len(self._pipeline.unet.config.block_out_channels) - 1
        )
        small_height, small_width = (
            max(step, round(length * side / max(height, width) / step) * step) for length in (height, width)
        )
        size = (small_width, small_height)
        picture = cv2.resize(scene.image, size, interpolation=cv2.INTER_AREA)
        hide = (scene.face & ~scene.lesion).astype(np.uint8)
        mask = cv2.resize(hide, size, interpolation=cv2.INTER_NEAREST)
        disease = scene.photograph.disease
        shown = self._pipeline(
            prompt="clinical photograph of a face" + ("" if disease == NORMAL else f" showing {disease}"),
            image=torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)[None].float() / 255,
            mask_image=torch.from_numpy(mask)[None, None].float(),
            height=small_height,
            width=small_width,
            strength=1.0,
            num_inference_steps=self._steps,
            guidance_scale=self._guidance,
            generator=torch.Generator(self._device).manual_seed(scene.seed),
            output_type="np",
        ).images[0]
        full = cv2.resize(np.asarray(shown, np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
        return np.asarray(np.clip(np.rint(full * 255), 0, 255), np.uint8)
