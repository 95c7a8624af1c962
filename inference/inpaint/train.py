"""Trains the inpainting UNet and its text encoder on latents of training pictures (ε-prediction, min-SNR weights).

The pictures' latents are computed once by the frozen autoencoder; a step draws pictures, noise and time steps.
Shape letters: M stored pictures, N batch, s latent side; latents float32 (·, 4, s, s), scaled to unit spread.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from diffusers import AutoencoderKL, DDPMScheduler
from diffusers.training_utils import EMAModel, compute_snr
from torch import Tensor
from transformers import CLIPTokenizer

from inference.inpaint.autoencoder import to_tensor
from inference.inpaint.build import (
    build_scheduler,
    build_text_encoder,
    build_tokenizer,
    build_unet,
    save_pipeline,
)
from inference.inpaint.data import Portraits, samples
from inference.inpaint.inpainter import load_pipeline
from inference.progress import Meter, learning_rate, load_state, save_state

SAVE_EVERY_S = 240


@dataclass(frozen=True, slots=True)
class InpaintTraining:
    """How to train the UNet; ``seconds`` ends a run early when it is spent (0: no limit)."""

    steps: int = 10_000
    batch: int = 16
    learning_rate: float = 5e-4
    draws: int = 16
    snr_gamma: float = 5.0
    seen_weight: float = 0.5
    average_decay: float = 0.999
    seed: int = 11
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Latents:
    """Stored training pictures: latents (M, 4, s, s), masks (M, 1, s, s), masked latents (M, 4, s, s), token ids."""

    clean: Tensor
    mask: Tensor
    masked: Tensor
    tokens: Tensor


@torch.no_grad()
def encode_portraits(
    vae: AutoencoderKL,
    portraits: Portraits,
    prompts_to_tokens: Callable[[list[str]], Tensor],
    config: InpaintTraining,
    tick: Callable[[int], None] = lambda _: None,
) -> Latents:
    """Draw ``config.draws`` samples of every portrait and encode them as the pipeline would."""
    size_px, scale = int(vae.config["sample_size"]), float(vae.config["scaling_factor"])
    generator = torch.Generator().manual_seed(config.seed)
    clean: list[Tensor] = []
    mask: list[Tensor] = []
    masked: list[Tensor] = []
    prompts: list[str] = []
    for draw in range(config.draws):
        for begin in range(0, len(portraits.labels), 32):
            order = list(range(begin, min(begin + 32, len(portraits.labels))))
            drawn = list(samples(portraits, order, size_px, config.seed * 1_000_003 + draw))
            pictures = to_tensor(np.stack([s.image for s in drawn]))
            hide = torch.from_numpy(np.stack([s.hide for s in drawn])).float()[:, None]
            clean.append(vae.encode(pictures).latent_dist.mode() * scale)
            blanked = vae.encode(pictures * (hide < 0.5)).latent_dist
            masked.append(blanked.sample(generator) * scale)
            mask.append(F.interpolate(hide, size=clean[-1].shape[-2:]))
            prompts.extend(s.prompt for s in drawn)
            tick(len(order))
    return Latents(torch.cat(clean), torch.cat(mask), torch.cat(masked), prompts_to_tokens(prompts))


def stored_latents(
    vae: AutoencoderKL,
    portraits: Portraits,
    tokens: Callable[[list[str]], Tensor],
    file: Path,
    config: InpaintTraining,
) -> Latents:
    """The training pictures' latents, from ``file`` or computed and kept there; sets the VAE's scaling factor."""
    state = load_state(file)
    if state is None:
        vae.register_to_config(scaling_factor=1.0)
        probe = encode_portraits(vae, portraits, tokens, replace(config, draws=1))
        vae.register_to_config(scaling_factor=float(1 / probe.clean.std()))
        made = encode_portraits(vae, portraits, tokens, config)
        state = {name: getattr(made, name) for name in ("clean", "mask", "masked", "tokens")}
        state["scaling_factor"] = float(vae.config["scaling_factor"])
        save_state(file, state)
    vae.register_to_config(scaling_factor=state.pop("scaling_factor"))
    return Latents(**state)


class Learner:
    """The networks that learn, their optimiser, and the moving average that is shipped."""

    def __init__(
        self, config: InpaintTraining, start: Path | None = None, tokenizer: CLIPTokenizer | None = None
    ) -> None:
        torch.manual_seed(config.seed)
        self.config = config
        self.tokenizer = tokenizer or build_tokenizer()
        self.text, self.unet = build_text_encoder(self.tokenizer), build_unet()
        if start is not None:
            begun = load_pipeline(start)
            self.tokenizer = tokenizer or begun.tokenizer
            self.text.load_state_dict(begun.text_encoder.state_dict())
            self.unet.load_state_dict(begun.unet.state_dict())
        self.unet.to(memory_format=torch.channels_last)
        self.learned = [*self.unet.parameters(), *self.text.parameters()]
        self.optimiser = torch.optim.AdamW(
            self.learned, lr=config.learning_rate, betas=(0.9, 0.99), weight_decay=0.01
        )
        self.average = EMAModel(self.learned, decay=config.average_decay, use_ema_warmup=True, power=0.75)
        self.schedule = DDPMScheduler.from_config(build_scheduler().config)

    def tokens(self, prompts: list[str]) -> Tensor:
        """Token ids (N, 24) of prompts."""
        ids: Tensor = self.tokenizer(
            prompts, padding="max_length", truncation=True, return_tensors="pt"
        ).input_ids
        return ids

    def loss(self, latents: Latents, step: int) -> Tensor:
        """ε-prediction error of one batch, decided by seed and step alone; min-SNR weights (Hang 2023, Eq. 5)."""
        config = self.config
        draw = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
        chosen = torch.randint(len(latents.clean), (config.batch,), generator=draw)
        clean, mask, masked = latents.clean[chosen], latents.mask[chosen], latents.masked[chosen]
        noise = torch.randn(clean.shape, generator=draw)
        times = torch.randint(1000, (config.batch,), generator=draw)
        noisy = self.schedule.add_noise(clean, noise, times)
        states = self.text(latents.tokens[chosen])[0]
        given = torch.cat([noisy, mask, masked], 1).contiguous(memory_format=torch.channels_last)
        told: Tensor = self.unet(given, times, states).sample
        snr = compute_snr(self.schedule, times)
        weight = (snr.clamp(max=config.snr_gamma) / snr)[:, None, None, None]
        weight = weight * (config.seen_weight + (1 - config.seen_weight) * mask)
        error: Tensor = ((told - noise).square() * weight).mean()
        return error

    def update(self, loss: Tensor, step: int) -> None:
        """One optimiser step on ``loss``."""
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(step, self.config.steps, self.config.learning_rate)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.learned, 1.0)
        self.optimiser.step()
        self.average.step(self.learned)

    def load(self, file: Path) -> int:
        """Take up the state in ``file``; the step to go on with, 0 without a state."""
        state = load_state(file)
        if state is None:
            return 0
        for name in ("unet", "text", "optimiser", "average"):
            getattr(self, name).load_state_dict(state[name])
        return int(state["step"])

    def store(self, file: Path, step: int, vae: AutoencoderKL, pipeline: Path) -> None:
        """Keep the state in ``file`` and write the pipeline of the averaged weights."""
        parts = ("unet", "text", "optimiser", "average")
        save_state(file, {name: getattr(self, name).state_dict() for name in parts} | {"step": step})
        self.average.store(self.learned)
        self.average.copy_to(self.learned)
        save_pipeline(pipeline, vae, self.unet, self.text, self.tokenizer)
        self.average.restore(self.learned)


def train_inpaint(
    portraits: Portraits, vae: AutoencoderKL, out: Path, config: InpaintTraining, start: Path | None = None
) -> Path:
    """Train (or go on training) and write the whole pipeline to ``out/pipeline``; the state is in ``out/unet.pt``.

    It begins with the UNet and the text encoder of the pipeline ``start``, or with random weights.
    The autoencoder's scaling factor is set so that the latents have unit spread.
    """
    # The trainer of a tokenizer numbers some letters by chance; what is learnt and stored keeps to the first one.
    kept = out / "tokenizer"
    tokenizer = CLIPTokenizer.from_pretrained(kept, local_files_only=True) if kept.is_dir() else None
    learner = Learner(config, start, tokenizer)
    learner.tokenizer.save_pretrained(kept)
    vae.requires_grad_(False).eval()
    latents = stored_latents(vae, portraits, learner.tokens, out / "latents.pt", config)
    first = learner.load(out / "unet.pt")
    meter = Meter("inpaint", first, config.steps)
    began = saved = time.monotonic()
    done = first
    for step in meter.steps():
        if config.seconds and time.monotonic() - began > config.seconds:
            break
        loss = learner.loss(latents, step)
        learner.update(loss, step)
        meter.note(loss=loss.item())
        done = step + 1
        if time.monotonic() - saved > SAVE_EVERY_S:
            learner.store(out / "unet.pt", done, vae, out / "pipeline")
            saved = time.monotonic()
    learner.store(out / "unet.pt", done, vae, out / "pipeline")
    return out / "pipeline"
