"""The inpainter of a bundle in this process: diffusers' Stable Diffusion inpainting pipeline at strength 1.

The pipeline starts from pure noise and sees the picture only with the hidden part blanked, so hidden pixels have no
way into the result. Shape letters: N batch, S square side.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionInpaintPipeline
from torch import Tensor

from inference.contract import Image, Mask


class DiffusionInpainter:
    """Implements :class:`inference.contract.Inpainter` with a diffusers pipeline folder.

    Parameters
    ----------
    folder
        As ``StableDiffusionInpaintPipeline.save_pretrained`` writes it.
    steps
        Denoising steps.
    guidance
        Classifier-free guidance scale; 1 asks the UNet once a step.

    Raises
    ------
    ValueError
        The UNet is not a nine-channel ε-prediction inpainting UNet.
    """

    def __init__(self, folder: Path, *, steps: int = 20, guidance: float = 1.0) -> None:
        pipeline = StableDiffusionInpaintPipeline.from_pretrained(
            folder,
            dtype=torch.float32,
            local_files_only=True,
            safety_checker=None,
            requires_safety_checker=False,
        )
        channels = int(pipeline.unet.config.in_channels)
        prediction = pipeline.scheduler.config.prediction_type
        if channels != 9 or prediction != "epsilon":
            raise ValueError(
                f"The inpainter in this bundle has {channels} input channels and predicts {prediction}; "
                "a nine-channel ε-prediction inpainting model is needed."
            )
        pipeline.set_progress_bar_config(disable=True)
        for part in (pipeline.vae, pipeline.unet, pipeline.text_encoder):
            part.requires_grad_(False).eval()
        pipeline.unet.to(memory_format=torch.channels_last)
        pipeline.vae.to(memory_format=torch.channels_last)
        self._pipeline = pipeline
        self._steps = steps
        self._guidance = guidance
        self._embedding = lru_cache(maxsize=256)(self._embed)

    @property
    def size_px(self) -> int:
        """S, the side the pipeline was trained at."""
        return int(self._pipeline.unet.config.sample_size) * int(self._pipeline.vae_scale_factor)

    @torch.inference_mode()
    def inpaint(self, images: Image, hide: Mask, prompts: Sequence[str], seeds: Sequence[int]) -> Image:
        """Painted uint8 RGB (N, S, S, 3); see :class:`inference.contract.Inpainter`.

        Raises
        ------
        FloatingPointError
            What was painted is not a number somewhere.
        """
        blanked = np.where(hide[..., None], np.uint8(127), images)
        picture = torch.from_numpy(blanked).permute(0, 3, 1, 2).float() / 255
        mask = torch.from_numpy(np.ascontiguousarray(hide)).float()[:, None]
        guided = self._guidance > 1
        painted = self._pipeline(
            prompt_embeds=torch.cat([self._embedding(prompt) for prompt in prompts]),
            negative_prompt_embeds=torch.cat([self._embedding("")] * len(prompts)) if guided else None,
            image=picture,
            mask_image=mask,
            height=self.size_px,
            width=self.size_px,
            strength=1.0,
            num_inference_steps=self._steps,
            guidance_scale=self._guidance,
            generator=[torch.Generator().manual_seed(int(seed)) for seed in seeds],
            output_type="pt",
        ).images
        if not torch.isfinite(painted).all():
            raise FloatingPointError("the inpainter gave values that are no numbers")
        return np.asarray((painted * 255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy())

    def _embed(self, prompt: str) -> Tensor:
        tokenizer = self._pipeline.tokenizer
        batch = tokenizer(
            [prompt],
            padding="max_length",
            truncation=True,
            max_length=tokenizer.model_max_length,
            return_tensors="pt",
        )
        with torch.inference_mode():
            states: Tensor = self._pipeline.text_encoder(batch.input_ids)[0]
        return states
