"""The small autoencoder of the nano inpainter: diffusers' ``AutoencoderKL``, eight times smaller latents.

Two stages. ``both``: encoder and decoder learn to reproduce crops. ``decoder``: with the latent space fixed, the
decoder alone goes on learning against a patch discriminator, from slightly disturbed latents, so that it paints
sharp features from what a diffusion model gives it. Shape letters: N batch, S crop side; pictures float32 in [−1, 1].
"""

import time
from dataclasses import dataclass
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
            for a, b in zip(sizes, sizes[1:], strict=False)
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


def _batch(portraits: Portraits, step: int, config: AutoencoderTraining, size_px: int) -> list[Sample]:
    draw = np.random.default_rng([config.seed, step])
    order = draw.integers(len(portraits.labels), size=config.batch)
    return list(samples(portraits, order.tolist(), size_px, config.seed * 1_000_003 + step))


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
    model.to(memory_format=torch.channels_last)
    size_px = int(model.config["sample_size"])
    critic = PatchCritic()
    if stage == "decoder":
        model.encoder.requires_grad_(False)
        model.quant_conv.requires_grad_(False)
    learned = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(learned, lr=config.learning_rate, betas=(0.9, 0.99), weight_decay=0.0)
    critic_optimiser = torch.optim.AdamW(critic.parameters(), lr=config.learning_rate / 2, betas=(0.5, 0.99))
    average = [p.detach().clone() for p in learned]
    first = 0
    state = load_state(out / f"{stage}.pt")
    if state is not None:
        model.load_state_dict(state["model"])
        critic.load_state_dict(state["critic"])
        optimiser.load_state_dict(state["optimiser"])
        critic_optimiser.load_state_dict(state["critic_optimiser"])
        average, first = state["average"], state["step"]

    def store(step: int) -> None:
        save_state(
            out / f"{stage}.pt",
            {
                "model": model.state_dict(), "critic": critic.state_dict(), "optimiser": optimiser.state_dict(),
                "critic_optimiser": critic_optimiser.state_dict(), "average": average, "step": step,
            },
        )  # fmt: skip
        current = [p.detach().clone() for p in learned]
        for parameter, mean in zip(learned, average, strict=True):
            parameter.data.copy_(mean)
        model.save_pretrained(out / "vae")
        for parameter, value in zip(learned, current, strict=True):
            parameter.data.copy_(value)

    meter = Meter(f"autoencoder ({stage})", first, config.steps)
    began = saved = time.monotonic()
    step = first
    for step in meter.steps():
        spent = config.seconds and time.monotonic() - began > config.seconds
        if spent:
            break
        rate = config.learning_rate * min(1.0, (step + 1) / 200)
        for group in optimiser.param_groups:
            group["lr"] = rate
        drawn = _batch(portraits, step, config, size_px)
        target = to_tensor(np.stack([s.image for s in drawn])).contiguous(memory_format=torch.channels_last)
        weight = 1 + 4 * torch.from_numpy(np.stack([s.features for s in drawn])).float()[:, None]
        if stage == "both":
            blank = torch.from_numpy(np.stack([s.hide for s in drawn]))[:, None] & (
                torch.rand(len(drawn), 1, 1, 1) < 0.15
            )
            target = target * ~blank  # the encoder must also read pictures with the face blanked
            posterior = model.encode(target).latent_dist
            latents = posterior.sample()
            divergence = posterior.kl().mean() / latents[0].numel()
        else:
            with torch.no_grad():
                latents = model.encode(target).latent_dist.mode()
                spread = latents.std() * config.latent_noise * torch.rand(len(drawn), 1, 1, 1)
                latents = latents + torch.randn_like(latents) * spread
            divergence = target.new_zeros(())
        painted = model.decode(latents).sample
        difference = _pyramid_difference(painted, target, weight)
        loss = difference + 1e-4 * divergence
        adversarial = stage == "decoder" or step >= config.adversarial_from
        if adversarial:
            judged, seen = critic(painted)
            with torch.no_grad():
                _, known = critic(target)
            matching = torch.stack([F.l1_loss(a, b) for a, b in zip(seen, known, strict=True)]).sum()
            loss = loss + config.adversarial_weight * (-judged.mean() + 4 * matching)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(learned, 1.0)
        optimiser.step()
        if adversarial:
            real, _ = critic(target)
            fake, _ = critic(painted.detach())
            telling = F.relu(1 - real).mean() + F.relu(1 + fake).mean()
            critic_optimiser.zero_grad(set_to_none=True)
            telling.backward()
            critic_optimiser.step()
            meter.note(critic=telling.item())
        for mean, parameter in zip(average, learned, strict=True):
            mean.lerp_(parameter.detach(), 0.001 if step > 2000 else 0.01)
        meter.note(difference=difference.item(), kl=divergence.item())
        if time.monotonic() - saved > 120:
            store(step + 1)
            saved = time.monotonic()
    store(step + 1)
    return model
