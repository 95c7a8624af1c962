"""One training from first to last step: rate, averaged weights, checkpoints, and what is told meanwhile.

Every step draws from a generator seeded by (seed, step), so a killed run that continues from a checkpoint
sees what it would have seen.
"""

import logging
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

log = logging.getLogger(__name__)

Step = Callable[[np.random.Generator], tuple[Tensor, dict[str, float]]]
"""Makes one batch and gives its loss, and figures to tell."""

Model = TypeVar("Model", bound=nn.Module)

Tell = Callable[[int, dict[str, float]], None]


class CheckpointMismatch(Exception):
    """The checkpoint belongs to another configuration; the message names the file."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a training does apart from its model and its data.

    Attributes
    ----------
    name
        For the lines told.
    checkpoint
        File that is replaced every ``checkpoint_every`` steps and at the end; continued when present.
    seed
        Decides everything that is drawn.
    steps
        Optimiser steps, all of them, whether run now or before.
    rate, decay
        Highest learning rate, and weight decay (AdamW).
    checkpoint_every
        Steps between checkpoints.
    """

    name: str
    checkpoint: Path
    seed: int
    steps: int
    rate: float
    decay: float
    checkpoint_every: int


@contextmanager
def telling(name: str, steps: int) -> Iterator[Tell]:
    """A bar on a terminal, a log line every now and then elsewhere."""
    if sys.stderr.isatty():
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}"),
        )
        with Progress(*columns) as progress:
            task = progress.add_task(name, total=steps, figures="")

            def draw(step: int, figures: dict[str, float]) -> None:
                progress.update(task, completed=step, figures=_told(figures))

            yield draw
        return
    every = max(1, min(50, steps // 20))

    def write(step: int, figures: dict[str, float]) -> None:
        if step % every == 0 or step == steps:
            log.info("%s %d/%d %s", name, step, steps, _told(figures))

    yield write


def _told(figures: dict[str, float]) -> str:
    return " ".join(f"{name}={value:.4g}" for name, value in figures.items())


def _rate_at(plan: Plan, step: int) -> float:
    warm_up = max(1, min(100, plan.steps // 10))
    if step < warm_up:
        return plan.rate * (step + 1) / warm_up
    done = (step - warm_up) / max(1, plan.steps - warm_up)
    return plan.rate * (0.01 + 0.99 * (1 + math.cos(math.pi * done)) / 2)


def _restore(
    path: Path, model: nn.Module, average: nn.Module, optimiser: torch.optim.Optimizer
) -> tuple[int, float]:
    state = torch.load(path, weights_only=True)
    try:
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        return int(state["step"]), float(state["seconds"])
    except (KeyError, RuntimeError, ValueError) as error:
        raise CheckpointMismatch(
            f"{path} was written by a training of another shape; remove it to start anew"
        ) from error


def _save(path: Path, state: dict[str, Any]) -> None:
    """Replace the checkpoint as a whole: a kill in between leaves the one before."""
    whole = path.with_suffix(".part")
    torch.save(state, whole)
    whole.replace(path)


def run(model: Model, step: Step, plan: Plan, on_checkpoint: Callable[[Model], None]) -> float:
    """Train to the last step, continuing from the plan's checkpoint where there is one.

    Parameters
    ----------
    model
        Trained in place.
    step
        Gives the loss of a freshly drawn batch.
    plan
        Steps, rate, seed, checkpoint.
    on_checkpoint
        Called after each checkpoint with the model of averaged weights, in evaluation mode.

    Returns
    -------
    float
        Seconds spent, runs before this one included.

    Raises
    ------
    CheckpointMismatch
        The checkpoint does not fit this model.
    FloatingPointError
        The loss is no longer finite.
    """
    average = deepcopy(model).eval()
    optimiser = torch.optim.AdamW(model.parameters(), lr=plan.rate, weight_decay=plan.decay)
    first, before_s = 0, 0.0
    if plan.checkpoint.exists():
        first, before_s = _restore(plan.checkpoint, model, average, optimiser)
        log.info("%s continues at step %d", plan.name, first)
    model.train()
    began = time.monotonic()
    with telling(plan.name, plan.steps) as tell:
        for index in range(first, plan.steps):
            for group in optimiser.param_groups:
                group["lr"] = _rate_at(plan, index)
            loss, figures = step(np.random.default_rng((plan.seed, index)))
            if not bool(torch.isfinite(loss)):
                raise FloatingPointError(f"{plan.name}: the loss is not finite at step {index}")
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimiser.step()
            _follow(average, model, keep=min(0.998, (index + 1) / (index + 10)))
            seconds = before_s + time.monotonic() - began
            tell(index + 1, {"loss": float(loss.detach()), **figures, "seconds": seconds})
            if (index + 1) % plan.checkpoint_every == 0 or index + 1 == plan.steps:
                state = {
                    "model": model.state_dict(),
                    "average": average.state_dict(),
                    "optimiser": optimiser.state_dict(),
                    "step": index + 1,
                    "seconds": seconds,
                }
                _save(plan.checkpoint, state)
                on_checkpoint(average)
    return before_s + time.monotonic() - began


@torch.no_grad()
def _follow(average: nn.Module, model: nn.Module, keep: float) -> None:
    """Move the averaged weights towards the model's; counters are copied."""
    for ours, theirs in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if ours.dtype.is_floating_point:
            ours.lerp_(theirs, 1 - keep)
        else:
            ours.copy_(theirs)
