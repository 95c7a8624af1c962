"""What both trainings of the autoencoder share: two critics, one step of each side, a state that survives.

Shape letters: N batch, S crop side; pictures float32 (N, 3, S, S) in [−1, 1].
"""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from diffusers import AutoencoderKL
from torch import Tensor, nn

from inference.inpaint.perception import moved
from inference.progress import learning_rate, load_state, save_state

PENALTY = 1.0
"""γ of R1."""
PENALTY_EVERY = 4
"""Steps from one penalty to the next."""


class Critic(nn.Module):
    """Tells photographs from painted pictures, by patches and as a whole."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        sizes = [3, width, width * 2, width * 4, width * 4, width * 4]
        self.stages = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(a, b, 4, 2, 1), nn.Identity() if a == 3 else nn.GroupNorm(8, b), nn.LeakyReLU(0.2)
            )
            for a, b in pairwise(sizes)
        )
        self.patches = nn.Conv2d(sizes[3], 1, 3, 1, 1)
        self.whole = nn.Conv2d(sizes[5], 1, 3, 1, 1)

    def forward(self, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Logits (N, 1, S / 8, S / 8) and (N, 1, S / 32, S / 32), high for photographs; every stage's features."""
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return [self.patches(features[2]), self.whole(features[4])], features


class Adversaries:
    """An autoencoder that learns against a critic, and the moving average of its weights, which is what is shipped.

    Parameters
    ----------
    model
        The autoencoder; only ``learned`` of its parameters change.
    rates
        The learning rates of the painter and of the critics, after warming up.
    steps
        The steps after which the rates have fallen.
    """

    def __init__(
        self, model: AutoencoderKL, learned: Sequence[nn.Parameter], rates: tuple[float, float], steps: int
    ) -> None:
        self.model = model.to(memory_format=torch.channels_last).requires_grad_(False)
        self.learned = list(learned)
        for parameter in self.learned:
            parameter.requires_grad_(True)
        self.critic = Critic()
        self._rates, self._steps = rates, steps
        betas = (0.5, 0.99)
        self.optimiser = torch.optim.AdamW(self.learned, lr=rates[0], betas=betas, weight_decay=0.0)
        self.critic_optimiser = torch.optim.AdamW(self.critic.parameters(), lr=rates[1], betas=betas)
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

    def fool(self, painted: Tensor, like: Tensor, where: Tensor, meant: Tensor) -> Tensor:
        """The painter's adversarial loss: critics' verdict, and the distance of their features from ``like``'s.

        The verdict counts where ``where`` (N, 1, S, S) is 1; pictures of which ``meant`` (N, 1, 1, 1) is 1 are
        compared with ``like``.
        """
        painted, like, where = moved(painted, like, where)
        judged, seen = self.critic(painted)
        with torch.no_grad():
            _, known = self.critic(like)
        matching = [((a - b).abs() * meant).mean() for a, b in zip(seen, known, strict=True)]
        verdict = [_mean(F.softplus(-logits), where) for logits in judged]
        return torch.stack(verdict + matching).sum()

    def update(self, loss: Tensor, step: int) -> None:
        """One step of the painter on ``loss``."""
        for optimiser, highest in zip((self.optimiser, self.critic_optimiser), self._rates, strict=True):
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(step, self._steps, highest)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.learned, 1.0)
        self.optimiser.step()
        for mean, parameter in zip(self.average, self.learned, strict=True):
            mean.lerp_(parameter.detach(), 0.003 if step > 1000 else 0.01)

    def judge(self, photographs: Tensor, painted: Tensor, where: Tensor, step: int) -> float:
        """One step of the critics (logistic loss where ``where`` is 1; Mescheder 2018); their loss without the penalty.

        Every ``PENALTY_EVERY`` steps the slope of their verdict on photographs is penalised (R1, Eq. 9), as often as
        much: a critic whose gradient is bounded there teaches no specks.
        """
        photographs, painted, where = moved(photographs, painted.detach(), where)
        penalised = step % PENALTY_EVERY == 0
        photographs.requires_grad_(penalised)
        known = self.critic(photographs)[0]
        losses = [_mean(F.softplus(-logits), where) for logits in known]
        losses += [_mean(F.softplus(logits), where) for logits in self.critic(painted)[0]]
        loss = torch.stack(losses).sum()
        whole = loss
        if penalised:
            # Divided by the root of their number, each patch's own slope counts once.
            verdict = torch.stack([logits.sum() / logits[0].numel() ** 0.5 for logits in known]).sum()
            (slope,) = torch.autograd.grad(verdict, photographs, create_graph=True)
            whole = loss + PENALTY_EVERY * PENALTY / 2 * slope.square().sum((1, 2, 3)).mean()
        self.critic_optimiser.zero_grad(set_to_none=True)
        whole.backward()
        self.critic_optimiser.step()
        return loss.item()


def _mean(losses: Tensor, where: Tensor) -> Tensor:
    """Mean of a critic's losses (N, 1, h, h), each weighted by the share of ``where`` (N, 1, S, S) in its patch."""
    weight = F.adaptive_avg_pool2d(where, losses.shape[-1])
    return (losses * weight).sum() / weight.sum().clamp(min=1e-6)
