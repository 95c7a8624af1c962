"""The last stage of the inpainter's training: the decoder learns to paint clean faces from what the UNet gives it.

The latent space stays. Latents of photographs are disturbed, more or less, and cleaned again by the UNet, which sees
the photograph with its face blanked, as ever; they still mean that photograph, and the decoder learns to paint it from
them. There are no critics: against those, decoders of this size learnt to print specks about the eyes. What an average
of possibilities lacks is asked for instead: photographs a little sharpened, and their contrast at every place.
Shape letters: M stored samples, N batch, S crop side, s latent side; pictures float32 in [−1, 1].
"""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from diffusers import StableDiffusionInpaintPipeline
from torch import Tensor

from inference.inpaint.autoencoder import pyramid_difference, to_tensor
from inference.inpaint.data import Portraits, samples
from inference.inpaint.inpainter import load_pipeline
from inference.inpaint.painter import Painter
from inference.progress import Meter, load_state, save_state

SAVE_EVERY_S = 120


@dataclass(frozen=True, slots=True)
class DecoderTraining:
    """How to train the decoder; ``seconds`` ends a run early when it is spent (0: no limit).

    Attributes
    ----------
    latent_noise
        Disturbs photographs' latents by up to this share of their spread.
    sharpened
        How much of what a Gaussian of one pixel takes from the photographs is added to them.
    contrast_weight
        Of the difference in local contrast.
    draws
        Samples of the UNet for every portrait.
    likest, unlikest
        Shares of the sampling steps by which samples are taken back and done anew.
    sampling_steps
        Of the UNet.
    """

    steps: int = 2_000
    batch: int = 8
    learning_rate: float = 2e-4
    latent_noise: float = 0.1
    sharpened: float = 0.5
    contrast_weight: float = 0.5
    draws: int = 8
    likest: float = 0.1
    unlikest: float = 0.5
    sampling_steps: int = 20
    seed: int = 9
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Painted:
    """What the UNet repainted.

    Attributes
    ----------
    pictures
        Photographs, uint8 (M, 3, S, S).
    features
        bool (M, 1, S, S): their eyes, brows, noses and mouths.
    latents
        float32 (M, 4, s, s), to decode.
    """

    pictures: Tensor
    features: Tensor
    latents: Tensor


@torch.inference_mode()
def sample_latents(
    pipeline: StableDiffusionInpaintPipeline, portraits: Portraits, config: DecoderTraining
) -> Painted:
    """Let the UNet paint ``config.draws`` samples of every portrait, as far as the decoder."""
    size_px = int(pipeline.vae.config.sample_size)
    kept: dict[str, list[Tensor]] = {"pictures": [], "features": [], "latents": []}
    total = len(portraits.labels) * config.draws
    dice = np.random.default_rng(config.seed)
    meter = Meter("samples of the UNet", 0, -(-total // 16))
    for step in meter.steps():
        order = [number % len(portraits.labels) for number in range(step * 16, min(step * 16 + 16, total))]
        drawn = list(samples(portraits, order, size_px, config.seed * 1_000_003 + step))
        back = float(dice.uniform(config.likest, config.unlikest))
        pictures = np.stack([s.image for s in drawn])
        hide = torch.from_numpy(np.stack([s.hide for s in drawn]))[:, None]
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
        latents = _repaint(
            pipeline,
            to_tensor(pictures),
            hide,
            [s.prompt for s in drawn],
            back,
            config.sampling_steps,
            generator,
        )
        kept["pictures"].append(torch.from_numpy(pictures).permute(0, 3, 1, 2))
        kept["features"].append(torch.from_numpy(np.stack([s.features for s in drawn]))[:, None])
        kept["latents"].append(latents)
    return Painted(**{name: torch.cat(parts).clone() for name, parts in kept.items()})


def _repaint(  # noqa: PLR0913, PLR0917 - who paints, what, how far back, by which dice
    pipeline: StableDiffusionInpaintPipeline,
    pictures: Tensor,
    hide: Tensor,
    prompts: list[str],
    back: float,
    steps: int,
    generator: torch.Generator,
) -> Tensor:
    """Latents (N, 4, s, s), unscaled, of pictures whose last share ``back`` of the sampling steps is done anew."""
    vae, scheduler, scale = pipeline.vae, pipeline.scheduler, pipeline.vae.config.scaling_factor
    clean = vae.encode(pictures).latent_dist.mode() * scale
    masked = vae.encode(pictures * ~hide).latent_dist.mode() * scale
    mask = F.interpolate(hide.float(), size=clean.shape[-2:])
    tokens = pipeline.tokenizer(prompts, padding="max_length", truncation=True, return_tensors="pt").input_ids
    states = pipeline.text_encoder(tokens)[0]
    scheduler.set_timesteps(steps)
    first = min(steps - 1, round(steps * (1 - back)))
    scheduler.set_begin_index(first)
    times = scheduler.timesteps[first:]
    noisy = scheduler.add_noise(clean, torch.randn(clean.shape, generator=generator), times[:1])
    for at in times:
        told = pipeline.unet(torch.cat([noisy, mask, masked], 1), at, states).sample
        noisy = scheduler.step(told, at, noisy).prev_sample
    latents: Tensor = noisy / scale
    return latents


def contrast_difference(a: Tensor, b: Tensor, weight: Tensor) -> Tensor:
    """Mean difference of the local contrast of pictures at two and four pixels, weighted by (N, 1, S, S).

    Contrast is the root mean square, over 5 × 5, of an octave's band; that of single pixels is left out, because what
    fills it up is specks.
    """
    total = a.new_zeros(())
    for _ in range(2):
        a, b, weight = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2), F.avg_pool2d(weight, 2)
        total = total + ((_contrast(a) - _contrast(b)).abs() * weight).mean()
    return total


def _contrast(pictures: Tensor) -> Tensor:
    coarse = F.interpolate(F.avg_pool2d(pictures, 2), scale_factor=2.0, mode="bilinear")
    energy = (pictures - coarse).square().mean(1, keepdim=True)
    return (F.avg_pool2d(energy, 5, stride=1, padding=2) + 1e-5).sqrt()


def sharpened(pictures: Tensor, amount: float) -> Tensor:
    """Pictures with ``amount`` of what a Gaussian of one pixel takes from them added, within [−1, 1]."""
    reach = torch.arange(-3, 4, dtype=pictures.dtype)
    line = torch.exp(-reach.square() / 2)
    kernel = (line[:, None] * line[None] / line.sum() ** 2).expand(3, 1, 7, 7)
    soft = F.conv2d(F.pad(pictures, (3, 3, 3, 3), mode="replicate"), kernel, groups=3)
    return (pictures + amount * (pictures - soft)).clamp(-1, 1)


def _learn(
    painter: Painter, portraits: Portraits, painted: Painted, step: int, config: DecoderTraining
) -> dict[str, float]:
    """One step, a quarter of the batch photographs, the rest samples of the UNet; losses by name."""
    draw = np.random.default_rng([config.seed, step])
    few = max(1, config.batch // 4)
    order = draw.integers(len(portraits.labels), size=few).tolist()
    size_px = int(painter.model.config["sample_size"])
    drawn = list(samples(portraits, order, size_px, config.seed * 1_000_003 + step))
    photographs = to_tensor(np.stack([s.image for s in drawn])).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        latents = painter.model.encode(photographs).latent_dist.mode()
        spread = latents.std() * config.latent_noise * torch.rand(few, 1, 1, 1)
        latents = latents + torch.randn_like(latents) * spread
    chosen = torch.from_numpy(draw.integers(len(painted.latents), size=config.batch - few))
    pictures = torch.cat([photographs, painted.pictures[chosen].float() / 127.5 - 1])
    seen = torch.from_numpy(np.stack([s.features for s in drawn]))[:, None]
    weight = 1 + 4 * torch.cat([seen, painted.features[chosen]]).float()
    targets = sharpened(pictures, config.sharpened)
    result = painter.model.decode(torch.cat([latents, painted.latents[chosen]])).sample
    difference = pyramid_difference(result, targets, weight)
    contrast = contrast_difference(result, targets, weight)
    painter.update(difference + config.contrast_weight * contrast, step)
    return {"difference": difference.item(), "contrast": contrast.item()}


def train_decoder(portraits: Portraits, out: Path, config: DecoderTraining) -> Path:
    """Train (or go on training) the decoder of ``out/pipeline`` and put it there; the state is in ``out/decoder.pt``.

    The UNet's samples are drawn once and kept in ``out/painted.pt``; without that file they are drawn anew.
    """
    torch.manual_seed(config.seed)
    pipeline = load_pipeline(out / "pipeline")
    kept = load_state(out / "painted.pt")
    if kept is None:
        made = sample_latents(pipeline, portraits, config)
        kept = {name: getattr(made, name) for name in Painted.__slots__}
        save_state(out / "painted.pt", kept)
    painted = Painted(**kept)
    model = pipeline.vae
    learned = [*model.decoder.parameters(), *model.post_quant_conv.parameters()]
    painter = Painter(model, learned, config.learning_rate, config.steps)
    first, _ = painter.load(out / "decoder.pt")
    done = first
    meter = Meter("decoder", first, config.steps)
    began = saved = time.monotonic()
    for step in meter.steps():
        if config.seconds and time.monotonic() - began > config.seconds:
            break
        meter.note(**_learn(painter, portraits, painted, step, config))
        done = step + 1
        if time.monotonic() - saved > SAVE_EVERY_S:
            painter.store(out / "decoder.pt", done, out / "vae", {})
            saved = time.monotonic()
    painter.store(out / "decoder.pt", done, out / "vae", {})
    return out / "vae"
