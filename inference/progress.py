"""What trainings share: a bar for people, lines for logs, states that survive a kill, a learning rate."""

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Replace ``path`` by ``state`` so that a kill at any moment leaves the old or the new file, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    torch.save(state, fresh)
    fresh.replace(path)


def load_state(path: Path) -> dict[str, Any] | None:
    """The state saved under ``path``, or None for a fresh start."""
    if not path.is_file():
        return None
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def write_figures(path: Path, figures: Sequence[Mapping[str, float]]) -> None:
    """Write figures as JSON, one object each; what is no number is ``null``."""
    plain = [
        {name: value if math.isfinite(value) else None for name, value in one.items()} for one in figures
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8")


def learning_rate(step: int, steps: int, highest: float, warm_up: int = 200) -> float:
    """Warm up over ``warm_up`` steps, hold, and fall as a half cosine over the last half of the steps."""
    warm = min(1.0, (step + 1) / warm_up)
    late = max(0.0, (step / steps - 0.5) * 2)
    return highest * warm * (0.5 + 0.5 * math.cos(math.pi * min(late, 1.0)))


class Meter:
    """Shows steps and running means of losses: a bar on a terminal, a line every ``every_s`` seconds elsewhere."""

    def __init__(self, title: str, first: int, last: int, every_s: float = 20.0) -> None:
        self._title, self._first, self._last, self._every_s = title, first, last, every_s
        self._means: dict[str, float] = {}

    def note(self, **values: float) -> None:
        """Take the losses of one step into the running means."""
        for name, value in values.items():
            self._means[name] = 0.98 * self._means.get(name, value) + 0.02 * value

    @property
    def text(self) -> str:
        """The running means, for people."""
        return " ".join(f"{name} {value:.4f}" for name, value in self._means.items())

    def steps(self) -> Iterator[int]:
        """The step numbers, shown as they pass."""
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        terminal = Console().is_terminal
        with Progress(*columns, TextColumn("{task.fields[means]}"), disable=not terminal) as bar:
            task = bar.add_task(self._title, total=self._last, completed=self._first, means="")
            began = shown = time.monotonic()
            for step in range(self._first, self._last):
                yield step
                now = time.monotonic()
                if terminal:
                    bar.update(task, completed=step + 1, means=self.text)
                elif now - shown > self._every_s or step + 1 == self._last:
                    shown = now
                    rate = (step + 1 - self._first) / (now - began)
                    text = f"{self._title} {step + 1}/{self._last} {rate:.2f} steps/s {self.text}"
                    bar.console.print(text, soft_wrap=True)
