"""Critics that tell photographs from what the autoencoder paints, and learn while it does.

Shape letters: N batch, S crop side; pictures float32 (N, 3, S, S) in [−1, 1].
"""

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor, nn

from inference.inpaint.perception import moved
from inference.progress import learning_rate


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


class Critics:
    """Two critics that learn.

    Parameters
    ----------
    rate
        Their learning rate after warming up.
    steps
        The steps after which it has fallen.
    """

    def __init__(self, rate: float, steps: int) -> None:
        self.critic = Critic()
        self._rate, self._steps = rate, steps
        self.optimiser = torch.optim.AdamW(self.critic.parameters(), lr=rate, betas=(0.5, 0.99))

    def load(self, state: dict[str, Any]) -> None:
        """Take up a state."""
        self.critic.load_state_dict(state["critic"])
        self.optimiser.load_state_dict(state["optimiser"])

    def state(self) -> dict[str, Any]:
        """What goes on learning later."""
        return {"critic": self.critic.state_dict(), "optimiser": self.optimiser.state_dict()}

    def fool(self, painted: Tensor, like: Tensor) -> Tensor:
        """The painter's adversarial loss: critics' verdict, and the distance of their features from ``like``'s."""
        painted, like = moved(painted, like)
        judged, seen = self.critic(painted)
        with torch.no_grad():
            _, known = self.critic(like)
        matching = [F.l1_loss(a, b) for a, b in zip(seen, known, strict=True)]
        return torch.stack([-logits.mean() for logits in judged]).sum() + 2 * torch.stack(matching).sum()

    def judge(self, photographs: Tensor, painted: Tensor, step: int) -> float:
        """One step of the critics (hinge loss); their loss."""
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(step, self._steps, self._rate)
        photographs, painted = moved(photographs, painted.detach())
        losses = [F.relu(1 - logits).mean() for logits in self.critic(photographs)[0]]
        losses += [F.relu(1 + logits).mean() for logits in self.critic(painted)[0]]
        loss = torch.stack(losses).sum()
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        return loss.item()
