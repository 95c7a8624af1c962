"""The last stage of the inpainter's training: the decoder learns to paint sharp faces from what the UNet gives it.

The latent space stays. The decoder goes on reproducing photographs from their latents, and besides paints the UNet's
own samples, put into their photographs as the gateway does; two critics, one of patches and one of whole faces, tell
what it paints from photographs. Shape letters: M stored samples, N batch, S crop side, s latent side; pictures float32
in [−1, 1].
"""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionInpaintPipeline
from torch import Tensor

from inference.inpaint.adversarial import Adversaries
from inference.inpaint.autoencoder import pyramid_difference, to_tensor
from inference.inpaint.data import Portraits, samples
from inference.inpaint.inpainter import load_pipeline
from inference.inpaint.perception import Perception
from inference.progress import Meter, load_state, save_state

SAVE_EVERY_S = 120


@dataclass(frozen=True, slots=True)
class DecoderTraining:
    """How to train the decoder; ``seconds`` ends a run early when it is spent (0: no limit)."""

    steps: int = 6_000
    batch: int = 4
    learning_rate: float = 2e-4
    critic_rate: float = 2e-4
    adversarial_weight: float = 0.08
    perceptual_weight: float = 0.1
    latent_noise: float = 0.1
    draws: int = 6
    sampling_steps: int = 20
    seed: int = 8
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Painted:
    """The UNet's own samples: pictures uint8 (M, 3, S, S), hide bool (M, 1, S, S), latents (M, 4, s, s) to decode."""

    pictures: Tensor
    hide: Tensor
    latents: Tensor


@torch.inference_mode()
def sample_latents(
    pipeline: StableDiffusionInpaintPipeline, portraits: Portraits, config: DecoderTraining
) -> Painted:
    """Let the UNet paint ``config.draws`` samples of every portrait, as far as the decoder."""
    size_px = int(pipeline.vae.config.sample_size)
    pipeline.set_progress_bar_config(disable=True)
    pictures: list[Tensor] = []
    hides: list[Tensor] = []
    latents: list[Tensor] = []
    total = len(portraits.labels) * config.draws
    meter = Meter("samples of the UNet", 0, -(-total // 16))
    for step in meter.steps():
        order = [number % len(portraits.labels) for number in range(step * 16, min(step * 16 + 16, total))]
        drawn = list(samples(portraits, order, size_px, config.seed * 1_000_003 + step))
        picture = torch.from_numpy(np.stack([s.image for s in drawn])).permute(0, 3, 1, 2)
        hide = torch.from_numpy(np.stack([s.hide for s in drawn]))[:, None]
        made = pipeline(
            prompt=[s.prompt for s in drawn],
            image=torch.where(hide, 127, picture).float() / 255,
            mask_image=hide.float(),
            height=size_px,
            width=size_px,
            strength=1.0,
            num_inference_steps=config.sampling_steps,
            guidance_scale=1.0,
            generator=torch.Generator().manual_seed(config.seed * 1_000_003 + step),
            output_type="latent",
        ).images
        pictures.append(picture)
        hides.append(hide)
        latents.append(made / pipeline.vae.config.scaling_factor)
    return Painted(torch.cat(pictures).clone(), torch.cat(hides).clone(), torch.cat(latents).clone())


def _learn(  # noqa: PLR0913, PLR0917 - who learns, from what, when, how
    pair: Adversaries,
    portraits: Portraits,
    painted: Painted,
    step: int,
    config: DecoderTraining,
    perception: Perception,
) -> dict[str, float]:
    """One step of both sides, half of the batch photographs, half samples of the UNet; the losses, by name."""
    draw = np.random.default_rng([config.seed, step])
    half = config.batch // 2
    order = draw.integers(len(portraits.labels), size=config.batch - half).tolist()
    size_px = int(pair.model.config["sample_size"])
    drawn = list(samples(portraits, order, size_px, config.seed * 1_000_003 + step))
    photographs = to_tensor(np.stack([s.image for s in drawn])).contiguous(memory_format=torch.channels_last)
    features = torch.from_numpy(np.stack([s.features for s in drawn])).float()[:, None]
    with torch.no_grad():
        latents = pair.model.encode(photographs).latent_dist.mode()
        spread = latents.std() * config.latent_noise * torch.rand(len(drawn), 1, 1, 1)
        latents = latents + torch.randn_like(latents) * spread
    chosen = torch.from_numpy(draw.integers(len(painted.latents), size=half))
    scenes = painted.pictures[chosen].float() / 127.5 - 1
    hide = painted.hide[chosen].float()
    result = pair.model.decode(torch.cat([latents, painted.latents[chosen]])).sample
    repeated, invented = result[: len(drawn)], result[len(drawn) :]
    difference = pyramid_difference(repeated, photographs, 1 + 4 * features)
    difference = difference + pyramid_difference(invented, scenes, 1 - hide)
    perceived = perception(repeated, photographs)
    shown = torch.cat([repeated, invented * hide + scenes * (1 - hide)])
    fooling = pair.fool(shown, photographs)
    loss = difference + config.perceptual_weight * perceived + config.adversarial_weight * fooling
    pair.update(loss, step)
    return {
        "difference": difference.item(),
        "perceived": perceived.item(),
        "fooling": fooling.item(),
        "critic": pair.judge(torch.cat([photographs, scenes]), shown),
    }


def train_decoder(portraits: Portraits, out: Path, config: DecoderTraining, perception: Perception) -> Path:
    """Train (or go on training) the decoder of ``out/pipeline`` and put it there; the state is in ``out/decoder.pt``.

    The UNet's samples are drawn once and kept in ``out/painted.pt``; without that file they are drawn anew.
    """
    torch.manual_seed(config.seed)
    pipeline = load_pipeline(out / "pipeline")
    kept = load_state(out / "painted.pt")
    if kept is None:
        made = sample_latents(pipeline, portraits, config)
        kept = {name: getattr(made, name) for name in ("pictures", "hide", "latents")}
        save_state(out / "painted.pt", kept)
    painted = Painted(**kept)
    model = pipeline.vae
    learned = [*model.decoder.parameters(), *model.post_quant_conv.parameters()]
    pair = Adversaries(model, learned, (config.learning_rate, config.critic_rate), config.steps)
    first = done = pair.load(out / "decoder.pt")
    meter = Meter("decoder", first, config.steps)
    began = saved = time.monotonic()
    for step in meter.steps():
        if config.seconds and time.monotonic() - began > config.seconds:
            break
        meter.note(**_learn(pair, portraits, painted, step, config, perception))
        done = step + 1
        if time.monotonic() - saved > SAVE_EVERY_S:
            pair.store(out / "decoder.pt", done, out / "vae")
            saved = time.monotonic()
    pair.store(out / "decoder.pt", done, out / "vae")
    return out / "vae"
