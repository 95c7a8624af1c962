"""Trains the inpainting UNet and its text encoder on latents of training pictures (ε-prediction, min-SNR weights).

The pictures' latents are computed once by the frozen autoencoder; a step draws pictures, noise and time steps.
Shape letters: M stored pictures, N batch, s latent side; latents float32 (·, 4, s, s), scaled to unit spread.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from diffusers import AutoencoderKL, DDPMScheduler
from diffusers.training_utils import EMAModel, compute_snr
from torch import Tensor

from inference.inpaint.autoencoder import to_tensor
from inference.inpaint.build import (
    build_scheduler,
    build_text_encoder,
    build_tokenizer,
    build_unet,
    save_pipeline,
)
from inference.inpaint.data import Portraits, samples
from inference.inpaint.progress import Meter, load_state, save_state


@dataclass(frozen=True, slots=True)
class InpaintTraining:
    """How to train the UNet; ``seconds`` ends a run early when it is spent (0: no limit)."""

    steps: int = 10_000
    batch: int = 16
    learning_rate: float = 5e-4
    draws: int = 16
    snr_gamma: float = 5.0
    hidden_weight: float = 2.0
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
    clean, mask, masked, prompts = [], [], [], []
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


def train_inpaint(portraits: Portraits, vae: AutoencoderKL, out: Path, config: InpaintTraining) -> Path:
    """Train (or go on training) and write the whole pipeline to ``out/pipeline``; the state is in ``out/unet.pt``.

    The autoencoder's scaling factor is set so that the latents have unit spread.
    """
    torch.manual_seed(config.seed)
    tokenizer = build_tokenizer()
    text, unet = build_text_encoder(tokenizer), build_unet()

    def tokens(prompts: list[str]) -> Tensor:
        batch = tokenizer(prompts, padding="max_length", truncation=True, return_tensors="pt")
        ids: Tensor = batch.input_ids
        return ids

    vae.requires_grad_(False).eval()
    stored = out / "latents.pt"
    state = load_state(stored)
    if state is None:
        vae.register_to_config(scaling_factor=1.0)
        probe = encode_portraits(vae, portraits, tokens, InpaintTraining(draws=1, seed=config.seed))
        vae.register_to_config(scaling_factor=float(1 / probe.clean.std()))
        latents = encode_portraits(vae, portraits, tokens, config)
        state = {
            "clean": latents.clean, "mask": latents.mask, "masked": latents.masked, "tokens": latents.tokens,
            "scaling_factor": float(vae.config["scaling_factor"]),
        }  # fmt: skip
        save_state(stored, state)
    vae.register_to_config(scaling_factor=state.pop("scaling_factor"))
    latents = Latents(**state)

    unet.to(memory_format=torch.channels_last)
    learned = [*unet.parameters(), *text.parameters()]
    optimiser = torch.optim.AdamW(learned, lr=config.learning_rate, betas=(0.9, 0.99), weight_decay=0.01)
    average = EMAModel(learned, decay=config.average_decay, use_ema_warmup=True, power=0.75)
    noise_schedule = DDPMScheduler.from_config(build_scheduler().config)
    first = 0
    resumed = load_state(out / "unet.pt")
    if resumed is not None:
        unet.load_state_dict(resumed["unet"])
        text.load_state_dict(resumed["text"])
        optimiser.load_state_dict(resumed["optimiser"])
        average.load_state_dict(resumed["average"])
        first = resumed["step"]

    def store(step: int) -> None:
        save_state(
            out / "unet.pt",
            {
                "unet": unet.state_dict(), "text": text.state_dict(), "optimiser": optimiser.state_dict(),
                "average": average.state_dict(), "step": step,
            },
        )  # fmt: skip
        average.store(learned)
        average.copy_to(learned)
        save_pipeline(out / "pipeline", vae, unet, text, tokenizer)
        average.restore(learned)

    meter = Meter("inpaint", first, config.steps)
    began = saved = time.monotonic()
    step = first
    for step in meter.steps():
        if config.seconds and time.monotonic() - began > config.seconds:
            break
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, config)
        draw = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
        chosen = torch.randint(len(latents.clean), (config.batch,), generator=draw)
        clean, mask, masked = latents.clean[chosen], latents.mask[chosen], latents.masked[chosen]
        noise = torch.randn(clean.shape, generator=draw)
        times = torch.randint(1000, (config.batch,), generator=draw)
        noisy = noise_schedule.add_noise(clean, noise, times)
        states = text(latents.tokens[chosen])[0]
        told = unet(
            torch.cat([noisy, mask, masked], 1).contiguous(memory_format=torch.channels_last), times, states
        ).sample
        snr = compute_snr(noise_schedule, times)
        weight = (snr.clamp(max=config.snr_gamma) / snr)[:, None, None, None] * (
            1 + (config.hidden_weight - 1) * mask
        )
        loss = ((told - noise).square() * weight).mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        optimiser.step()
        average.step(learned)
        meter.note(loss=loss.item())
        if time.monotonic() - saved > 240:
            store(step + 1)
            saved = time.monotonic()
    store(step + 1)
    return out / "pipeline"


def learning_rate(step: int, config: InpaintTraining) -> float:
    """Warm up over 200 steps, hold, and fall as a half cosine over the last half of the steps."""
    warm = min(1.0, (step + 1) / 200)
    late = max(0.0, (step / config.steps - 0.5) * 2)
    return float(config.learning_rate * warm * (0.5 + 0.5 * np.cos(np.pi * min(late, 1.0))))
