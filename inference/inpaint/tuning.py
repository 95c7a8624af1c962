"""Fine-tuning of a diffusers inpainting pipeline: low-rank adapters, their moving average, one or several GPUs.

The pipeline may be the nano bundle's or Stable Diffusion 2's. Shape letters: N batch, S the pipeline's side, s that of
its latents, D features of the UNet's middle, h their side; pictures are float32 in [−1, 1].
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from accelerate import Accelerator
from diffusers import DDPMScheduler, StableDiffusionInpaintPipeline
from diffusers.training_utils import EMAModel
from diffusers.utils import convert_state_dict_to_diffusers
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from torch import Tensor, nn

from inference.data import DataError
from inference.inpaint import inpainter
from inference.inpaint.build import without_paths
from inference.inpaint.importing import fuse_lora
from inference.progress import (
    finite,
    learning_rate,
    load_state,
    read_ahead,
    save_state,
    write_figures,
    writing,
)
from inference.recipe import RecipeError

Item_co = TypeVar("Item_co", covariant=True)

UNET_LAYERS = ["to_q", "to_k", "to_v", "to_out.0"]
TEXT_LAYERS = ["q_proj", "k_proj", "v_proj", "out_proj"]
PRECISIONS = ("auto", "no", "bf16", "fp16")


class PipelineError(DataError):
    """The pipeline cannot be fine-tuned; the message says why."""


@dataclass(frozen=True, slots=True)
class Tuning:
    """How to fine-tune, whatever the loss; the table ``[tuning]`` of a recipe.

    Attributes
    ----------
    steps, batch, accumulate
        Optimiser steps; pictures (or pairs) a device takes at once, and how often before each step.
    rank
        Of the adapters on every attention of the UNet.
    text_encoder
        Adapt the text encoder too.
    learning_rate, average_decay
        Highest rate (AdamW); of the moving average, which is what is written.
    precision
        ``auto`` is bfloat16 where the device has it, else full; or ``no``, ``bf16``, ``fp16``.
    gradient_checkpointing
        Less memory, a third more time.
    workers
        Processes a device that read pictures ahead (0: none).
    judged, judge_every
        Pictures (or pairs) that the figures are taken of, and steps between them.
    seed
        Decides all that is drawn.
    """

    steps: int = 2000
    batch: int = 4
    accumulate: int = 1
    rank: int = 16
    text_encoder: bool = False
    learning_rate: float = 1e-4
    average_decay: float = 0.995
    precision: str = "auto"
    gradient_checkpointing: bool = False
    workers: int = 2
    judged: int = 64
    judge_every: int = 200
    seed: int = 1

    def __post_init__(self) -> None:
        counts = (self.steps, self.batch, self.accumulate, self.rank, self.judged, self.judge_every)
        if min(counts) < 1 or self.workers < 0:
            raise RecipeError(
                "steps, batch, accumulate, rank, judged and judge_every must be 1 or more, workers 0 or more"
            )
        if self.seed < 0:
            raise RecipeError(f"seed must be 0 or more, not {self.seed}")
        if not (self.learning_rate > 0 and 0 <= self.average_decay < 1):
            raise RecipeError("learning_rate must be more than 0, average_decay lie in [0, 1)")
        if self.precision not in PRECISIONS:
            raise RecipeError(f"precision is {self.precision!r}, and must be one of {', '.join(PRECISIONS)}")


@dataclass(frozen=True, slots=True, eq=False)
class Condition:
    """What the UNet is given besides noise: mask (N, 1, s, s), masked latents (N, 4, s, s), token ids (N, T)."""

    mask: Tensor
    masked: Tensor
    tokens: Tensor


class Networks(nn.Module):
    """Text encoder and UNet as one module, so that several devices share its gradients.

    It gives ε_θ and the features of the UNet's middle.
    """

    def __init__(self, unet: nn.Module, text: nn.Module) -> None:
        super().__init__()
        self.unet, self.text = unet, text
        self._middle: list[Tensor] = []
        unet.get_submodule("mid_block").register_forward_hook(lambda *given: self._middle.append(given[2]))

    def forward(self, given: Tensor, times: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """ε_θ (N, 4, s, s) and middle features (N, D, h, h) of the nine channels (N, 9, s, s) at ``times`` (N,)."""
        self._middle.clear()
        states = self.text(tokens)[0]
        told = self.unet(given, times, states).sample
        # With gradient checkpointing the middle may run again in the backward pass; the first run is meant.
        return told.float(), self._middle[0].float()


class Drawn(Protocol[Item_co]):
    """An endless sequence of examples, each decided by its index."""

    def __getitem__(self, index: int) -> Item_co:
        """Example ``index``, 0 or more."""


def _part(examples: Drawn[Item_co], batch: int, number: int) -> list[Item_co]:
    return [examples[index] for index in range(number * batch, (number + 1) * batch)]


class Tuner:
    """A pipeline that is being fine-tuned.

    Parameters
    ----------
    folder
        A diffusers pipeline folder with a nine-channel UNet that predicts noise.
    out
        Gets ``tuning.pt`` (the state), ``figures.json``, ``lora/`` and ``pipeline/``.
    tuning
        How.

    Raises
    ------
    PipelineError
        No such pipeline.
    """

    def __init__(self, folder: Path, out: Path, tuning: Tuning) -> None:
        torch.manual_seed(tuning.seed)
        self.folder, self.out, self.tuning = folder, out, tuning
        self.accelerator = Accelerator(
            cpu=not torch.cuda.is_available(), mixed_precision=_precision(tuning.precision)
        )
        pipeline = load_pipeline(folder)
        self.vae, self.tokenizer = pipeline.vae.requires_grad_(False).eval(), pipeline.tokenizer
        self.schedule = DDPMScheduler.from_config(pipeline.scheduler.config)
        self.scaling = float(pipeline.vae.config.scaling_factor)
        self.size_px = int(pipeline.unet.config.sample_size) * int(pipeline.vae_scale_factor)
        unet, text = pipeline.unet.requires_grad_(False), pipeline.text_encoder.requires_grad_(False)
        unet.add_adapter(LoraConfig(r=tuning.rank, lora_alpha=tuning.rank, target_modules=UNET_LAYERS))
        if tuning.text_encoder:
            text.add_adapter(LoraConfig(r=tuning.rank, lora_alpha=tuning.rank, target_modules=TEXT_LAYERS))
        if tuning.gradient_checkpointing:
            unet.enable_gradient_checkpointing()
        networks = Networks(unet, text).train()
        self.learned = [p for p in networks.parameters() if p.requires_grad]
        optimiser = torch.optim.AdamW(
            self.learned, lr=tuning.learning_rate, betas=(0.9, 0.99), weight_decay=0.0
        )
        self.networks, self.optimiser = self.accelerator.prepare(networks, optimiser)
        self.device = self.accelerator.device
        self.vae.to(self.device)
        self.average = EMAModel(self.learned, decay=tuning.average_decay, use_ema_warmup=True, power=0.75)
        self.average.to(self.device)
        self.figures: list[dict[str, float]] = []

    def tokens(self, prompts: list[str]) -> Tensor:
        """Token ids (N, T) of prompts."""
        length = int(self.tokenizer.model_max_length)
        told = self.tokenizer(
            prompts, padding="max_length", truncation=True, max_length=length, return_tensors="pt"
        )
        ids: Tensor = told.input_ids
        return ids.to(self.device)

    @torch.no_grad()
    def encode(self, pictures: Tensor) -> Tensor:
        """Latents (N, 4, s, s) of pictures (N, 3, S, S), scaled as the UNet knows them."""
        latents: Tensor = self.vae.encode(pictures.to(self.device)).latent_dist.mode() * self.scaling
        return latents

    def condition(self, pictures: Tensor, hide: Tensor, prompts: list[str]) -> Condition:
        """What the pipeline gives the UNet of pictures (N, 3, S, S) with ``hide`` (N, 1, S, S), 0 or 1, blanked."""
        masked = self.encode(pictures * (hide < 0.5))
        mask = F.interpolate(hide, size=masked.shape[-2:]).to(self.device)
        return Condition(mask, masked, self.tokens(prompts))

    def parts(self, examples: Drawn[Item_co], first: int) -> Iterator[list[Item_co]]:
        """The batches of this device from step ``first`` to the last, one for each part of a step, read ahead.

        Part p of device d of D takes the examples (p·D + d)·batch and following.
        """
        share, shares = self.accelerator.process_index, self.accelerator.num_processes
        tuning = self.tuning
        numbers = range(
            first * tuning.accumulate * shares + share, tuning.steps * tuning.accumulate * shares, shares
        )
        return read_ahead(partial(_part, examples, tuning.batch), numbers, tuning.workers)

    def draw(self, shape: torch.Size, step: int, part: int) -> tuple[Tensor, Tensor]:
        """Noise of this shape and time steps (N,): decided by seed, step, part of the step and device."""
        source = torch.Generator().manual_seed(
            ((self.tuning.seed * 1_000_003 + step) * 64 + part) * 64 + self.accelerator.process_index
        )
        times = torch.randint(int(self.schedule.config.num_train_timesteps), shape[:1], generator=source)
        return torch.randn(shape, generator=source).to(self.device), times.to(self.device)

    def ask(self, clean: Tensor, noise: Tensor, times: Tensor, given: Condition) -> tuple[Tensor, Tensor]:
        """ε_θ (N, 4, s, s) and the middle's features (N, D, h, h) for clean latents disturbed by this noise."""
        noisy = self.schedule.add_noise(clean, noise, times)
        channels = torch.cat([noisy, given.mask, given.masked], 1)
        with self.accelerator.autocast():
            told: tuple[Tensor, Tensor] = self.networks(channels, times, given.tokens)
        return told

    def learn(self, loss: Tensor) -> None:
        """Add the gradient of one part of a step.

        Raises
        ------
        FloatingPointError
            The loss is not a number.
        """
        finite(loss)
        self.accelerator.backward(loss / self.tuning.accumulate)

    def update(self, step: int) -> None:
        """One optimiser step on the gradients added, and the moving average after it."""
        warm_up = max(1, min(200, self.tuning.steps // 10))
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(step, self.tuning.steps, self.tuning.learning_rate, warm_up)
        self.accelerator.clip_grad_norm_(self.learned, 1.0)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.average.step(self.learned)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within it the networks have the averaged weights, are judged and do not learn."""
        self.average.store(self.learned)
        self.average.copy_to(self.learned)
        self.networks.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            self.networks.train()
            self.average.restore(self.learned)

    def note(self, step: int, **figures: float) -> None:
        """Keep figures of the held-out pictures, in memory and in ``figures.json``."""
        self.figures.append({"step": step, **figures})
        if self.accelerator.is_main_process:
            write_figures(self.out / "figures.json", self.figures)
            shown = "  ".join(f"{name} {value:.4f}" for name, value in figures.items())
            print(f"judged after {step} steps: {shown}", flush=True)

    def load(self, decided: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
        """Take up the state in ``out``: the step to go on with (0 without a state), and what ``store`` was given more.

        ``decided`` is what decides the result, as :func:`inference.progress.deciding` tells.

        Raises
        ------
        DataError
            The state is another training's, or damaged.
        """
        state = load_state(self.out / "tuning.pt", self._decided(decided))
        if state is None:
            return 0, {}
        with torch.no_grad():
            for parameter, value in zip(self.learned, state["learned"], strict=True):
                parameter.copy_(value)
        self.optimiser.load_state_dict(state["optimiser"])
        self.average.load_state_dict(state["average"])
        self.average.to(self.device)
        self.figures = state["figures"]
        return int(state["step"]), state["more"]

    def store(self, step: int, more: dict[str, Any], decided: Mapping[str, Any]) -> None:
        """Keep the state after ``step`` steps; ``more`` is what the losses remember.

        Raises
        ------
        FloatingPointError
            A weight is no number; the state before stays.
        """
        finite(*self.learned, *self.average.shadow_params)
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            state = {
                "decided": self._decided(decided),
                "learned": [p.detach().cpu() for p in self.learned],
                "optimiser": self.optimiser.state_dict(),
                "average": self.average.state_dict(),
                "figures": self.figures,
                "step": step,
                "more": more,
            }
            save_state(self.out / "tuning.pt", state)

    def _decided(self, decided: Mapping[str, Any]) -> dict[str, Any]:
        return {**decided, "processes": self.accelerator.num_processes}

    def write(self) -> Path:
        """Write the averaged adapters to ``out/lora``, and the pipeline with them fused to the folder returned."""
        target = self.out / "pipeline"
        if not self.accelerator.is_main_process:
            return target
        bare = self.accelerator.unwrap_model(self.networks)
        with self.averaged():
            layers = {
                "unet_lora_layers": convert_state_dict_to_diffusers(get_peft_model_state_dict(bare.unet))
            }
            if self.tuning.text_encoder:
                adapters = get_peft_model_state_dict(bare.text)
                layers["text_encoder_lora_layers"] = convert_state_dict_to_diffusers(adapters)
            with writing(self.out / "lora"):
                StableDiffusionInpaintPipeline.save_lora_weights(self.out / "lora", **layers)
        fuse(self.folder, self.out / "lora", target)
        return target


def load_pipeline(folder: Path) -> StableDiffusionInpaintPipeline:
    """The inpainting pipeline in a folder, float32.

    Raises
    ------
    PipelineError
        None is there, or it is not a nine-channel one that predicts noise.
    """
    try:
        pipeline: StableDiffusionInpaintPipeline = inpainter.load_pipeline(folder)
    except (OSError, ValueError) as error:
        raise PipelineError(
            f"{folder} holds no diffusers inpainting pipeline that can be taught: {error}"
        ) from error
    return pipeline


def fuse(folder: Path, adapters: Path, target: Path) -> None:
    """Write the pipeline of ``folder`` with the adapters added into its weights to ``target``, in half precision."""
    pipeline = load_pipeline(folder)
    fuse_lora(pipeline, adapters, 1.0)
    for part in (pipeline.vae, pipeline.unet, pipeline.text_encoder):
        part.to(torch.float16)
    with writing(target):
        pipeline.save_pretrained(target)
    without_paths(target)


def _precision(asked: str) -> str:
    if asked != "auto":
        return asked
    return "bf16" if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "no"
