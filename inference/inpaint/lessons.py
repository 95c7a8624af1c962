"""What a pipeline is taught, and the loop that teaches it: the same for photographs and for preferences.

Shape letters: N batch, s the side of the latents.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from inference.inpaint.tuning import Drawn, Tuner
from inference.progress import Meter

Item_contra = TypeVar("Item_contra", contravariant=True)
Item = TypeVar("Item")
B = TypeVar("B")


class Lesson(Protocol[Item_contra, B]):
    """What a pipeline is taught: its losses, and what they remember from step to step."""

    def encode(self, drawn: Sequence[Item_contra], /) -> B:
        """Examples as the UNet gets them."""

    def shape(self, batch: B, /) -> torch.Size:
        """Of the noise that a batch needs: (N, 4, s, s)."""

    def loss(self, batch: B, noise: Tensor, times: Tensor, /) -> tuple[Tensor, dict[str, float]]:
        """The loss at this noise and these time steps (N,), and what is shown of it."""

    def judge(self, held_out: Sequence[B], /) -> dict[str, float]:
        """Figures of the averaged weights; FloatingPointError where their errors are no numbers."""

    @property
    def memory(self) -> Any:
        """What the losses remember; has ``state_dict`` and ``load_state_dict``."""


def teach(
    tuner: Tuner,
    decided: Mapping[str, Any],
    lesson: Lesson[Item, B],
    examples: Drawn[Item],
    judged: Sequence[Item],
) -> Path:
    """Train on ``examples`` from where an earlier call was ended, judge on ``judged``, and write the pipeline.

    ``decided`` is what decides the result, as :func:`inference.progress.deciding` tells.

    Raises
    ------
    DataError
        The state in the folder is another training's, or an example cannot be read.
    FloatingPointError
        The training diverged.
    """
    tuning = tuner.tuning
    first, more = tuner.load(decided)
    if more:
        lesson.memory.load_state_dict(more)
    held_out = [lesson.encode(judged[begin : begin + 16]) for begin in range(0, len(judged), 16)]
    if first == 0:
        tuner.note(0, **lesson.judge(held_out))
    parts = tuner.parts(examples, first)
    meter = Meter(decided["kind"], first, tuning.steps)
    for step in meter.steps():
        for part in range(tuning.accumulate):
            batch = lesson.encode(next(parts))
            noise, times = tuner.draw(lesson.shape(batch), step, part)
            loss, told = lesson.loss(batch, noise, times)
            tuner.learn(loss)
            meter.note(**told)
        tuner.update(step)
        if (step + 1) % tuning.judge_every == 0 or step + 1 == tuning.steps:
            tuner.note(step + 1, **lesson.judge(held_out))
            tuner.store(step + 1, dict(lesson.memory.state_dict()), decided)
    return tuner.write()
