"""The small autoencoder of the nano inpainter: diffusers' ``AutoencoderKL``, eight times smaller latents.

Two stages. ``both``: encoder and decoder learn to reproduce crops. ``decoder``: with the latent space fixed, the
decoder alone goes on learning against a patch discriminator, from slightly disturbed latents, so that it paints
sharp features from what a diffusion model gives it. Shape letters: N batch, S crop side; pictures float32 in [−1, 1].
"""

import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from diffusers import AutoencoderKL
from torch import Tensor, nn

from inference.inpaint.data import Portraits, Sample, samples
from inference.inpaint.progress import Meter, load_state, save_state

Stage = Literal["both", "decoder"]
SAVE_EVERY_S = 120


@dataclass(frozen=True, slots=True)
class AutoencoderTraining:
    """How to train the autoencoder; ``seconds`` ends a run early when it is spent (0: no limit)."""

    steps: int = 20_000
    batch: int = 8
    learning_rate: float = 4e-4
    adversarial_from: int = 2_500
    adversarial_weight: float = 0.06
    latent_noise: float = 0.1
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


class PatchCritic(nn.Module):
    """Tells photographed patches from painted ones: (N, 3, S, S) to logits (N, 1, S/8, S/8) and its features."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        sizes = [3, width, width * 2, width * 4]
        self.stages = nn.ModuleList(
            nn.Sequential(
                nn.utils.parametrizations.spectral_norm(nn.Conv2d(a, b, 4, 2, 1)), nn.LeakyReLU(0.2)
            )
            for a, b in pairwise(sizes)
        )
        self.head = nn.utils.parametrizations.spectral_norm(nn.Conv2d(sizes[-1], 1, 3, 1, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Logits and the features of every stage."""
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return self.head(x), features


def to_tensor(pictures: np.ndarray[Any, Any]) -> Tensor:
    """Uint8 (N, S, S, 3) as float32 (N, 3, S, S) in [−1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1


def _pyramid_difference(a: Tensor, b: Tensor, weight: Tensor) -> Tensor:
    """Mean absolute difference over three octaves, finer ones by their band-pass, weighted by (N, 1, S, S)."""
    total = a.new_zeros(())
    for _ in range(3):
        small_a, small_b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
        band_a = a - F.interpolate(small_a, scale_factor=2, mode="bilinear")
        band_b = b - F.interpolate(small_b, scale_factor=2, mode="bilinear")
        total = total + ((band_a - band_b).abs() * weight).mean()
        a, b, weight = small_a, small_b, F.avg_pool2d(weight, 2)
    return total + ((a - b).abs() * weight).mean()


class _Learner:
    """The autoencoder, its critic, their optimisers, and the moving average that is shipped."""

    def __init__(self, model: AutoencoderKL, config: AutoencoderTraining, stage: Stage) -> None:
        self.config, self.stage = config, stage
        self.model = model.to(memory_format=torch.channels_last)
        if stage == "decoder":
            model.encoder.requires_grad_(False)
            model.quant_conv.requires_grad_(False)
        self.learned = [p for p in model.parameters() if p.requires_grad]
        self.critic = PatchCritic()
        rate = config.learning_rate
        self.optimiser = torch.optim.AdamW(self.learned, lr=rate, betas=(0.9, 0.99), weight_decay=0.0)
        self.critic_optimiser = torch.optim.AdamW(self.critic.parameters(), lr=rate / 2, betas=(0.5, 0.99))
        self.average = [p.detach().clone() for p in self.learned]

    def load(self, file: Path) -> int:
        """Take up the state in ``file``; the step to go on with, 0 without a state."""
        state = load_state(file)
        if state is None:
            return 0
        for name in ("model", "critic", "optimiser", "critic_optimiser"):
            getattr(self, name).load_state_dict(state[name])
        self.average = state["average"]
        return int(state["step"])

    def store(self, file: Path, step: int, folder: Path) -> None:
        """Keep the state in ``file`` and write the averaged autoencoder to ``folder``."""
        parts = ("model", "critic", "optimiser", "critic_optimiser")
        state: dict[str, Any] = {name: getattr(self, name).state_dict() for name in parts}
        save_state(file, state | {"average": self.average, "step": step})
        current = [p.detach().clone() for p in self.learned]
        self._take(self.average)
        self.model.save_pretrained(folder)
        self._take(current)

    def _take(self, values: list[Tensor]) -> None:
        for parameter, value in zip(self.learned, values, strict=True):
            parameter.data.copy_(value)

    def learn(self, drawn: list[Sample], step: int) -> dict[str, float]:
        """One step of both sides; the losses, by name."""
        target = to_tensor(np.stack([s.image for s in drawn])).contiguous(memory_format=torch.channels_last)
        weight = 1 + 4 * torch.from_numpy(np.stack([s.features for s in drawn])).float()[:, None]
        if self.stage == "both":
            # The encoder must also read pictures with the face blanked: those are what the UNet is given.
            blank = torch.from_numpy(np.stack([s.hide for s in drawn]))[:, None]
            target = target * ~(blank & (torch.rand(len(drawn), 1, 1, 1) < 0.15))
        latents, divergence = self._latents(target)
        painted = self.model.decode(latents).sample
        difference = _pyramid_difference(painted, target, weight)
        loss = difference + 1e-4 * divergence
        adversarial = self.stage == "decoder" or step >= self.config.adversarial_from
        if adversarial:
            judged, seen = self.critic(painted)
            with torch.no_grad():
                _, known = self.critic(target)
            matching = torch.stack([F.l1_loss(a, b) for a, b in zip(seen, known, strict=True)]).sum()
            loss = loss + self.config.adversarial_weight * (-judged.mean() + 4 * matching)
        for group in self.optimiser.param_groups:
            group["lr"] = self.config.learning_rate * min(1.0, (step + 1) / 200)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.learned, 1.0)
        self.optimiser.step()
        losses = {"difference": difference.item(), "kl": float(divergence)}
        if adversarial:
            losses["critic"] = self._judge(target, painted.detach())
        for mean, parameter in zip(self.average, self.learned, strict=True):
            mean.lerp_(parameter.detach(), 0.002 if step > 1000 else 0.01)
        return losses

    def _latents(self, target: Tensor) -> tuple[Tensor, Tensor]:
        if self.stage == "both":
            posterior = self.model.encode(target).latent_dist
            latents = posterior.sample()
            return latents, posterior.kl().mean() / latents[0].numel()
        with torch.no_grad():
            latents = self.model.encode(target).latent_dist.mode()
            spread = latents.std() * self.config.latent_noise * torch.rand(len(target), 1, 1, 1)
            return latents + torch.randn_like(latents) * spread, target.new_zeros(())

    def _judge(self, target: Tensor, painted: Tensor) -> float:
        real, _ = self.critic(target)
        fake, _ = self.critic(painted)
        loss = F.relu(1 - real).mean() + F.relu(1 + fake).mean()
        self.critic_optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.critic_optimiser.step()
        return float(loss)


def train_autoencoder(
    portraits: Portraits,
    out: Path,
    config: AutoencoderTraining,
    stage: Stage,
    model: AutoencoderKL | None = None,
) -> AutoencoderKL:
    """Train (or go on training) the autoencoder and save it as ``out/vae``; the state is in ``out/<stage>.pt``."""
    torch.manual_seed(config.seed)
    model = model or build_autoencoder()
    size_px = int(model.config["sample_size"])
    learner = _Learner(model, config, stage)
    first = learner.load(out / f"{stage}.pt")
    meter = Meter(f"autoencoder ({stage})", first, config.steps)
    began = saved = time.monotonic()
    done = first
    for step in meter.steps():
        if config.seconds and time.monotonic() - began > config.seconds:
            break
        order = np.random.default_rng([config.seed, step]).integers(len(portraits.labels), size=config.batch)
        drawn = samples(portraits, order.tolist(), size_px, config.seed * 1_000_003 + step)
        meter.note(**learner.learn(list(drawn), step))
        done = step + 1
        if time.monotonic() - saved > SAVE_EVERY_S:
            learner.store(out / f"{stage}.pt", done, out / "vae")
            saved = time.monotonic()
    learner.store(out / f"{stage}.pt", done, out / "vae")
    return model
