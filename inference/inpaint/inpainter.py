"""The inpainter of a bundle in this process: Stable Diffusion inpainting at strength 1, from a diffusers folder.

Sampling starts from pure noise and sees the picture only with the hidden part blanked, so hidden pixels have no way
into the result. The steps are those of diffusers' inpainting pipeline; what differs: the masked pictures are encoded
together and without drawing from the posterior, the sampler works in float32 whatever the models do, and texts are
encoded once. Shape letters: N batch, S square side, s side of the latents, T tokens, D width of the text's states.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import (
    DPMSolverMultistepScheduler,
    StableDiffusionInpaintPipeline,
    UniPCMultistepScheduler,
)
from torch import Tensor
from torch.nn import functional

from inference.contract import Image, Mask
from inference.execution import Execution
from inference.inpaint.denoiser import Denoiser, proven

SCHEDULERS: Mapping[str, tuple[Any, Mapping[str, Any]]] = {
    "dpmsolver++": (
        DPMSolverMultistepScheduler,
        {"algorithm_type": "dpmsolver++", "solver_order": 2, "use_karras_sigmas": True},
    ),
    "unipc": (UniPCMultistepScheduler, {"solver_order": 2, "use_karras_sigmas": True}),
}
"""Samplers by the name that bundles use: DPM-Solver++ 2M and UniPC of second order, both on Karras' steps."""


class DiffusionInpainter:
    """Implements :class:`inference.contract.Inpainter` with a diffusers pipeline folder.

    Parameters
    ----------
    source
        A folder as ``StableDiffusionInpaintPipeline.save_pretrained`` writes it, or such a pipeline to take over.
    steps
        Denoising steps.
    guidance
        Classifier-free guidance scale; 1 or less asks the UNet once a step.
    scheduler
        A name of :data:`SCHEDULERS`; empty: as the folder says.
    reuse
        The UNet's deep layers are computed every so many steps (:mod:`inference.inpaint.denoiser`).
    execution
        How it is computed on this machine.

    Raises
    ------
    ValueError
        The UNet is not a nine-channel ε-prediction inpainting UNet.
    inference.execution.ExecutionError
        The machine cannot compute it as asked.
    """

    def __init__(  # noqa: PLR0913 - what a bundle and a machine say about sampling
        self,
        source: Path | StableDiffusionInpaintPipeline,
        *,
        steps: int = 20,
        guidance: float = 1.0,
        scheduler: str = "",
        reuse: int = 1,
        execution: Execution | None = None,
    ) -> None:
        pipeline = load_pipeline(source) if isinstance(source, Path) else source
        run = execution or Execution()
        for part in (pipeline.vae, pipeline.text_encoder):
            part.requires_grad_(False).eval().to(run.device, run.dtype)
        pipeline.vae.to(memory_format=run.layout)
        self._run = run
        self._vae = pipeline.vae
        self._encode: Callable[..., tuple[Tensor, ...]] = self._to_latents
        self._decode: Callable[..., tuple[Tensor, ...]] = self._to_pixels
        if run.compile:
            self._encode, self._decode = proven(self._to_latents, run), proven(self._to_pixels, run)
        self._denoiser = Denoiser(pipeline.unet, run, reuse)
        self._text_encoder, self._tokenizer = pipeline.text_encoder, pipeline.tokenizer
        self._scheduler = scheduler_of(pipeline.scheduler, scheduler)
        self._size_px = int(pipeline.unet.config.sample_size) * int(pipeline.vae_scale_factor)
        self._steps = steps
        self._guidance = guidance
        self._states = lru_cache(maxsize=256)(self._encode_text)
        # CUDA graphs belong to the thread that recorded them, so all is computed in one.
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="inpaint")
        if run.compile:  # so that no photograph waits for a compiler
            self.warm_up()

    @property
    def size_px(self) -> int:
        """S, the side the pipeline was trained at."""
        return self._size_px

    def inpaint(self, images: Image, hide: Mask, prompts: Sequence[str], seeds: Sequence[int]) -> Image:
        """Painted uint8 RGB (N, S, S, 3); see :class:`inference.contract.Inpainter`.

        Raises
        ------
        ValueError
            A prompt is longer than the text encoder reads.
        FloatingPointError
            What was painted is not a number somewhere.
        """
        done = []
        for a, b in self._run.parts(len(images)):
            part = images[a:b], hide[a:b], prompts[a:b], seeds[a:b]
            done.append(self._worker.submit(self._batch, *part, self._steps).result())
        return np.concatenate(done)

    def warm_up(self) -> None:
        """Paint once in every batch size, in two steps.

        Raises
        ------
        FloatingPointError
            What was painted is not a number somewhere.
        """
        side, steps = self._size_px, min(self._steps, 2)
        for count in self._run.batches:
            grey, hide = (
                np.full((count, side, side, 3), 128, np.uint8),
                np.ones((count, side, side), np.bool_),
            )
            self._worker.submit(self._batch, grey, hide, [""] * count, [0] * count, steps).result()

    def _to_latents(self, seen: Tensor) -> tuple[Tensor, ...]:
        return (self._vae.encode(seen).latent_dist.mode(),)

    def _to_pixels(self, latents: Tensor) -> tuple[Tensor, ...]:
        return (self._vae.decode(latents, return_dict=False)[0],)

    @torch.inference_mode()
    def _batch(
        self, images: Image, hide: Mask, prompts: Sequence[str], seeds: Sequence[int], steps: int
    ) -> Image:
        run, count = self._run, len(images)
        rows = [min(row, count - 1) for row in range(run.padded(count))]
        # 1. What may be seen: the picture, (−1, 1), zero under the mask.
        blanked = np.where(hide[..., None], np.uint8(127), images)[rows]
        picture = torch.from_numpy(blanked).to(run.device).permute(0, 3, 1, 2).float() / 127.5 - 1
        mask = torch.from_numpy(np.ascontiguousarray(hide[rows])).to(run.device).float()[:, None]
        seen = (picture * (mask < 0.5)).to(run.dtype, memory_format=run.layout)
        latents_seen = self._encode(seen)[0] * self._vae.config.scaling_factor
        small = functional.interpolate(mask, size=latents_seen.shape[-2:])
        known = torch.cat([small.to(run.dtype), latents_seen], 1)
        # 2. What is asked for.
        states = torch.cat([self._states(prompts[row]) for row in rows])
        if self._guidance > 1:
            states = torch.cat([self._states("").expand(len(rows), -1, -1), states])
            known = torch.cat([known, known])
        # 3. Noise, drawn on the CPU: the same on every device.
        shape = (1, *latents_seen.shape[1:])
        drawn = [torch.randn(shape, generator=torch.Generator().manual_seed(int(seeds[row]))) for row in rows]
        # A scheduler remembers its last steps; each batch has its own.
        scheduler = type(self._scheduler).from_config(self._scheduler.config)
        scheduler.set_timesteps(steps)
        times = scheduler.timesteps.to(run.device)  # once: every copy to a GPU waits for it
        latents = torch.cat(drawn).to(run.device) * scheduler.init_noise_sigma
        # 4. Step by step to the picture.
        noise_at = self._denoiser.steps()
        for step, time in enumerate(scheduler.timesteps):
            asked = scheduler.scale_model_input(latents, time)
            asked = torch.cat([asked.to(run.dtype).repeat(len(known) // len(rows), 1, 1, 1), known], 1)
            asked = asked.contiguous(memory_format=run.layout)
            noise = noise_at(step, asked, times[step].repeat(len(known)), states).float()
            if self._guidance > 1:
                without, with_text = noise.chunk(2)
                noise = without + self._guidance * (with_text - without)
            latents = scheduler.step(noise, time, latents, return_dict=False)[0]
        # 5. Back to pixels.
        ready = (latents / self._vae.config.scaling_factor).to(run.dtype, memory_format=run.layout)
        painted = self._decode(ready)[0][:count].float()
        if not torch.isfinite(painted).all():
            raise FloatingPointError("the inpainter gave values that are no numbers")
        pixels = ((painted / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
        return np.asarray(pixels.permute(0, 2, 3, 1).contiguous().cpu().numpy())

    def read(self, prompts: Sequence[str]) -> None:
        """Encode texts before they are needed.

        Raises
        ------
        ValueError
            One of them is longer than the text encoder reads.
        """
        for prompt in prompts:
            self._states(prompt)

    @torch.inference_mode()
    def _encode_text(self, prompt: str) -> Tensor:
        """States (1, T, D) of the encoder's last layer, which in Stable Diffusion 2 is OpenCLIP's last but one."""
        # Some tokenizers name no limit; the encoder's positions are one.
        limit = int(self._text_encoder.config.max_position_embeddings)
        tokens = self._tokenizer(
            [prompt], padding="max_length", max_length=limit, return_tensors="pt"
        ).input_ids
        if tokens.shape[1] > limit:
            raise ValueError(
                f"A prompt of {tokens.shape[1] - 2} tokens was given; this bundle's text encoder reads {limit - 2}."
            )
        states: Tensor = self._text_encoder(tokens.to(self._run.device))[0]
        return states


def load_pipeline(folder: Path) -> Any:
    """The diffusers pipeline in ``folder``, in float32, from safetensors only.

    Raises
    ------
    ValueError
        It is not a nine-channel ε-prediction inpainting pipeline.
    """
    pipeline = StableDiffusionInpaintPipeline.from_pretrained(
        folder,
        dtype=torch.float32,
        local_files_only=True,
        use_safetensors=True,
        safety_checker=None,
        feature_extractor=None,  # the safety checker's, and nobody else's
        requires_safety_checker=False,
    )
    channels = int(pipeline.unet.config.in_channels)
    prediction = pipeline.scheduler.config.prediction_type
    if channels != 9 or prediction != "epsilon":
        raise ValueError(
            f"The inpainter in this bundle has {channels} input channels and predicts {prediction}; "
            "a nine-channel ε-prediction inpainting model is needed."
        )
    return pipeline


def scheduler_of(saved: Any, name: str) -> Any:
    """The scheduler called ``name`` on the noise schedule of the saved one; the saved one for an empty name.

    Raises
    ------
    KeyError
        No such name.
    """
    if not name:
        return saved
    kind, options = SCHEDULERS[name]
    return kind.from_config({**saved.config, **options})
