"""An autoencoder that learns: its optimiser, the moving average that is shipped, and a state that survives."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from inference.progress import learning_rate, load_state, save_state


class Painter:
    """An autoencoder, some of whose parameters learn.

    Parameters
    ----------
    model
        The autoencoder; only ``learned`` of its parameters change.
    rate
        The learning rate after warming up.
    steps
        The steps after which it has fallen.
    """

    def __init__(
        self, model: AutoencoderKL, learned: Sequence[nn.Parameter], rate: float, steps: int
    ) -> None:
        self.model = model.to(memory_format=torch.channels_last).requires_grad_(False)
        self.learned = list(learned)
        for parameter in self.learned:
            parameter.requires_grad_(True)
        self._rate, self._steps = rate, steps
        self.optimiser = torch.optim.AdamW(self.learned, lr=rate, betas=(0.5, 0.99), weight_decay=0.0)
        self.average = [p.detach().clone() for p in self.learned]

    def update(self, loss: Tensor, step: int) -> None:
        """One step on ``loss``.

        Raises
        ------
        FloatingPointError
            The loss is not a number.
        """
        if not bool(torch.isfinite(loss)):
            raise FloatingPointError("the loss is not finite; lower the learning rate")
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(step, self._steps, self._rate)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.learned, 1.0)
        self.optimiser.step()
        for mean, parameter in zip(self.average, self.learned, strict=True):
            mean.lerp_(parameter.detach(), 0.003 if step > 1000 else 0.01)

    def load(self, file: Path) -> tuple[int, dict[str, Any]]:
        """Take up the state in ``file``: the step to go on with (0 without a state), and what else was stored."""
        state = load_state(file)
        if state is None:
            return 0, {}
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.average = state["average"]
        return int(state["step"]), state["more"]

    def store(self, file: Path, step: int, folder: Path, more: dict[str, Any]) -> None:
        """Keep the state, and ``more``, in ``file`` and write the averaged autoencoder to ``folder``."""
        state = {
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "average": self.average,
            "step": step,
            "more": more,
        }
        save_state(file, state)
        current = [p.detach().clone() for p in self.learned]
        self._take(self.average)
        self.model.save_pretrained(folder)
        self._take(current)

    def _take(self, values: Sequence[Tensor]) -> None:
        for parameter, value in zip(self.learned, values, strict=True):
            parameter.data.copy_(value)
