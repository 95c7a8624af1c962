"""The small autoencoder of the nano inpainter: diffusers' ``AutoencoderKL``, eight times smaller latents.

Its encoder and decoder learn here to reproduce crops of faces; :mod:`inference.inpaint.decoder` goes on with the
decoder alone. Shape letters: N batch, S crop side; pictures float32 in [−1, 1].
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from diffusers import AutoencoderKL
from torch import Tensor

from inference.inpaint.adversarial import Critics
from inference.inpaint.data import Portraits, Sample, samples
from inference.inpaint.painter import Painter
from inference.inpaint.perception import Perception
from inference.progress import Meter

SAVE_EVERY_S = 120


@dataclass(frozen=True, slots=True)
class AutoencoderTraining:
    """How to train the autoencoder; ``seconds`` ends a run early when it is spent (0: no limit)."""

    steps: int = 20_000
    batch: int = 4
    learning_rate: float = 4e-4
    critic_rate: float = 2e-4
    adversarial_from: int = 2_500
    adversarial_weight: float = 0.06
    perceptual_weight: float = 0.5
    seed: int = 7
    seconds: float = 0.0


def build_autoencoder(channels: tuple[int, ...] = (16, 32, 64, 128), size_px: int = 128) -> AutoencoderKL:
    """A small ``AutoencoderKL`` with four latent channels, each level halving the side."""
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        block_out_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * len(channels),
        up_block_types=("UpDecoderBlock2D",) * len(channels),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=size_px,
    )


def to_tensor(pictures: np.ndarray[Any, Any]) -> Tensor:
    """Uint8 (N, S, S, 3) as float32 (N, 3, S, S) in [−1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1


def pyramid_difference(a: Tensor, b: Tensor, weight: Tensor) -> Tensor:
    """Mean absolute difference over three octaves, finer ones by their band-pass, weighted by (N, 1, S, S)."""
    total = a.new_zeros(())
    for _ in range(3):
        small_a, small_b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
        band_a = a - F.interpolate(small_a, scale_factor=2, mode="bilinear")
        band_b = b - F.interpolate(small_b, scale_factor=2, mode="bilinear")
        total = total + ((band_a - band_b).abs() * weight).mean()
        a, b, weight = small_a, small_b, F.avg_pool2d(weight, 2)
    return total + ((a - b).abs() * weight).mean()


def _learn(  # noqa: PLR0913, PLR0917 - who learns, from what, when, how
    painter: Painter,
    critics: Critics,
    drawn: list[Sample],
    step: int,
    config: AutoencoderTraining,
    perception: Perception,
) -> dict[str, float]:
    """One step of both sides; the losses, by name."""
    target = to_tensor(np.stack([s.image for s in drawn])).contiguous(memory_format=torch.channels_last)
    weight = 1 + 4 * torch.from_numpy(np.stack([s.features for s in drawn])).float()[:, None]
    # The encoder must also read pictures with the face blanked: those are what the UNet is given.
    blank = torch.from_numpy(np.stack([s.hide for s in drawn]))[:, None]
    target = target * ~(blank & (torch.rand(len(drawn), 1, 1, 1) < 0.15))
    posterior = painter.model.encode(target).latent_dist
    latents = posterior.sample()
    divergence = posterior.kl().mean() / latents[0].numel()
    painted = painter.model.decode(latents).sample
    difference = pyramid_difference(painted, target, weight)
    perceived = perception(painted, target)
    loss = difference + 1e-4 * divergence + config.perceptual_weight * perceived
    losses = {"difference": difference.item(), "kl": divergence.item(), "perceived": perceived.item()}
    adversarial = step >= config.adversarial_from
    if adversarial:
        loss = loss + config.adversarial_weight * critics.fool(painted, target)
    painter.update(loss, step)
    if adversarial:
        losses["critic"] = critics.judge(target, painted, step)
    return losses


def train_autoencoder(
    portraits: Portraits,
    out: Path,
    config: AutoencoderTraining,
    perception: Perception,
    model: AutoencoderKL | None = None,
) -> Path:
    """Train (or go on training) the autoencoder and save it as ``out/vae``; the state is in ``out/both.pt``.

    It begins with ``model``, or with random weights.
    """
    torch.manual_seed(config.seed)
    model = model or build_autoencoder()
    size_px = int(model.config["sample_size"])
    painter = Painter(model, list(model.parameters()), config.learning_rate, config.steps)
    critics = Critics(config.critic_rate, config.steps)
    first, more = painter.load(out / "both.pt")
    if more:
        critics.load(more)
    done = first
    meter = Meter("autoencoder", first, config.steps)
    began = saved = time.monotonic()
    for step in meter.steps():
        if config.seconds and time.monotonic() - began > config.seconds:
            break
        order = np.random.default_rng([config.seed, step]).integers(len(portraits.labels), size=config.batch)
        drawn = list(samples(portraits, order.tolist(), size_px, config.seed * 1_000_003 + step))
        meter.note(**_learn(painter, critics, drawn, step, config, perception))
        done = step + 1
        if time.monotonic() - saved > SAVE_EVERY_S:
            painter.store(out / "both.pt", done, out / "vae", critics.state())
            saved = time.monotonic()
    painter.store(out / "both.pt", done, out / "vae", critics.state())
    return out / "vae"
