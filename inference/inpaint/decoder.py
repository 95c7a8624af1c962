"""The last stage of the inpainter's training: the decoder learns to paint sharp faces from what the UNet gives it.

The latent space stays. Latents of photographs are disturbed, more or less, and cleaned again by the UNet, which sees
the photograph with its face blanked, as ever. Little disturbed, they still mean the photograph, which the decoder
learns to paint from them; quite disturbed they are a stranger, whom only the critics look at, put into the photograph
as the gateway does. Shape letters: M stored samples, N batch, S crop side, s latent side; pictures float32 in [−1, 1].
"""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from diffusers import StableDiffusionInpaintPipeline
from torch import Tensor

from inference.inpaint.adversarial import Adversaries
from inference.inpaint.autoencoder import pyramid_difference, to_tensor
from inference.inpaint.data import Portraits, samples
from inference.inpaint.inpainter import load_pipeline
from inference.progress import Meter, load_state, save_state

SAVE_EVERY_S = 120


@dataclass(frozen=True, slots=True)
class DecoderTraining:
    """How to train the decoder; ``seconds`` ends a run early when it is spent (0: no limit).

    Attributes
    ----------
    adversarial_from, adversarial_weight
        Step from which on the critics' verdict counts, and how much.
    latent_noise
        Disturbs photographs' latents by up to this share of their spread.
    draws, strangers
        Samples of the UNet for every portrait, and the share of them that begins with nothing but noise.
    likest, unlikest
        Shares of the sampling steps that the others are taken back by.
    sampling_steps
        Of the UNet.
    """

    steps: int = 6_000
    batch: int = 8
    learning_rate: float = 2e-4
    critic_rate: float = 2e-4
    adversarial_from: int = 400
    adversarial_weight: float = 0.08
    latent_noise: float = 0.1
    draws: int = 8
    strangers: float = 0.4
    likest: float = 0.1
    unlikest: float = 0.5
    sampling_steps: int = 20
    seed: int = 8
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Painted:
    """The UNet's own samples.

    Attributes
    ----------
    pictures
        Photographs, uint8 (M, 3, S, S).
    hide, features
        bool (M, 1, S, S): what was painted; eyes, brows, nose and mouth of the photograph.
    latents
        float32 (M, 4, s, s), to decode.
    meant
        bool (M,): they still mean the photograph.
    """

    pictures: Tensor
    hide: Tensor
    features: Tensor
    latents: Tensor
    meant: Tensor


@torch.inference_mode()
def sample_latents(
    pipeline: StableDiffusionInpaintPipeline, portraits: Portraits, config: DecoderTraining
) -> Painted:
    """Let the UNet paint ``config.draws`` samples of every portrait, as far as the decoder."""
    size_px = int(pipeline.vae.config.sample_size)
    kept: dict[str, list[Tensor]] = {"pictures": [], "hide": [], "features": [], "latents": [], "meant": []}
    total = len(portraits.labels) * config.draws
    dice = np.random.default_rng(config.seed)
    meter = Meter("samples of the UNet", 0, -(-total // 16))
    for step in meter.steps():
        order = [number % len(portraits.labels) for number in range(step * 16, min(step * 16 + 16, total))]
        drawn = list(samples(portraits, order, size_px, config.seed * 1_000_003 + step))
        stranger = dice.random() < config.strangers
        back = 1.0 if stranger else float(dice.uniform(config.likest, config.unlikest))
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
        kept["hide"].append(hide)
        kept["features"].append(torch.from_numpy(np.stack([s.features for s in drawn]))[:, None])
        kept["latents"].append(latents)
        kept["meant"].append(torch.full((len(drawn),), not stranger))
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
    noise = torch.randn(clean.shape, generator=generator)
    times = scheduler.timesteps[first:]
    noisy = scheduler.add_noise(clean, noise, times[:1]) if first else noise * scheduler.init_noise_sigma
    for at in times:
        told = pipeline.unet(torch.cat([noisy, mask, masked], 1), at, states).sample
        noisy = scheduler.step(told, at, noisy).prev_sample
    latents: Tensor = noisy / scale
    return latents


def _learn(
    pair: Adversaries, portraits: Portraits, painted: Painted, step: int, config: DecoderTraining
) -> dict[str, float]:
    """One step of both sides, two fifths of the batch photographs, the rest samples of the UNet; losses by name."""
    draw = np.random.default_rng([config.seed, step])
    few = max(1, config.batch * 2 // 5)
    order = draw.integers(len(portraits.labels), size=few).tolist()
    size_px = int(pair.model.config["sample_size"])
    drawn = list(samples(portraits, order, size_px, config.seed * 1_000_003 + step))
    photographs = to_tensor(np.stack([s.image for s in drawn]))
    with torch.no_grad():
        latents = pair.model.encode(
            photographs.contiguous(memory_format=torch.channels_last)
        ).latent_dist.mode()
        latents = latents + torch.randn_like(latents) * latents.std() * config.latent_noise * torch.rand(
            few, 1, 1, 1
        )
    chosen = torch.from_numpy(draw.integers(len(painted.latents), size=config.batch - few))
    targets = torch.cat([photographs, painted.pictures[chosen].float() / 127.5 - 1])
    hide = torch.cat([torch.ones(few, 1, size_px, size_px), painted.hide[chosen].float()])
    features = torch.cat(
        [
            torch.from_numpy(np.stack([s.features for s in drawn])).float()[:, None],
            painted.features[chosen].float(),
        ]
    )
    meant = torch.cat([torch.ones(few), painted.meant[chosen].float()])[:, None, None, None]
    result = pair.model.decode(torch.cat([latents, painted.latents[chosen]])).sample
    difference = pyramid_difference(result, targets, (1 - hide) + hide * meant * (1 + 4 * features))
    loss, shown = difference, result * hide + targets * (1 - hide)
    losses = {"difference": difference.item()}
    if step >= config.adversarial_from:
        fooling = pair.fool(shown, targets, hide, meant)
        loss = loss + config.adversarial_weight * fooling
        losses["fooling"] = fooling.item()
    pair.update(loss, step)
    return losses | {"critic": pair.judge(targets, shown, hide, step)}


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
    pair = Adversaries(model, learned, (config.learning_rate, config.critic_rate), config.steps)
    first = done = pair.load(out / "decoder.pt")
    meter = Meter("decoder", first, config.steps)
    began = saved = time.monotonic()
    for step in meter.steps():
        if config.seconds and time.monotonic() - began > config.seconds:
            break
        meter.note(**_learn(pair, portraits, painted, step, config))
        done = step + 1
        if time.monotonic() - saved > SAVE_EVERY_S:
            pair.store(out / "decoder.pt", done, out / "vae")
            saved = time.monotonic()
    pair.store(out / "decoder.pt", done, out / "vae")
    return out / "vae"
