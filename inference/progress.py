"""What trainings share: a bar for people, lines for logs, states that survive a kill, a learning rate."""

import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, TypeVar

import cv2
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors import SafetensorError

from inference.bundle import contents
from inference.data import DataError

Item = TypeVar("Item")


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Replace ``path`` by ``state`` so that a kill at any moment leaves the old or the new file, whole.

    Raises
    ------
    OSError
        It cannot be written; the old file stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    try:
        with writing(path):
            torch.save(state, fresh)
            fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """What PyTorch and safetensors raise within it, when they cannot write, as one error of the system.

    Raises
    ------
    OSError
        ``path`` cannot be written.
    """
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        raise OSError(f"{path} cannot be written; is the disk full?") from error


def load_state(path: Path, decided: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
    """The state saved under ``path``, or None for a fresh start.

    Parameters
    ----------
    path
        File.
    decided
        What decides this training, as :func:`deciding` tells; it must be what the state holds as ``decided``. None
        compares nothing.

    Raises
    ------
    DataError
        The file is damaged, or the state is another training's; the message tells the first difference.
    """
    if not path.is_file():
        return None
    try:
        state: dict[str, Any] = dict(torch.load(path, map_location="cpu", weights_only=True))
    except (RuntimeError, EOFError, UnpicklingError, ValueError, TypeError, LookupError) as error:
        raise DataError(f"{path} is damaged; remove it, and the training begins anew.") from error
    if decided is not None:
        _same(path, state.get("decided"), decided)
    return state


SPARED = frozenset(
    {"steps", "threads", "workers", "checkpoint_every", "judge_every", "gradient_checkpointing"}
)
"""Keys of recipes that may change when a training goes on."""


def deciding(kind: str, *recipes: Any, **more: Any) -> dict[str, Any]:
    """What decides a training's result, by name: kind, keys of recipes (dataclasses) not :data:`SPARED`, and more."""
    keys = {name: value for one in recipes for name, value in asdict(one).items() if name not in SPARED}
    return {"kind": kind, **keys, **more}


def content_of(path: Path) -> str:
    """What a file or a folder with weights holds, for :func:`deciding`."""
    return f"sha256:{contents(path)}"


def listed(rows: Iterable[Any], folder: Path) -> str:
    """Digest of a list's rows in their order, and of the sizes of the files in them; paths count from ``folder``.

    A row is a tuple, or a dataclass whose fields count as far as they are compared.
    """
    found = hashlib.sha256()
    for each in rows:
        row = each if isinstance(each, tuple) else [getattr(each, f.name) for f in fields(each) if f.compare]
        told = [
            [os.path.relpath(one, folder), one.stat().st_size] if isinstance(one, Path) else str(one)
            for one in row
        ]
        found.update(json.dumps(told).encode())
    return f"sha256:{found.hexdigest()}"


def _same(path: Path, held: Mapping[str, Any] | None, asked: Mapping[str, Any]) -> None:
    """Refuse a state that another training made."""
    if held is None:
        raise DataError(f"{path} does not tell what it was trained with; name another --out, or remove it.")
    for name in [*asked, *held]:
        old, new = held.get(name), asked.get(name)
        if old != new:
            told = f"other {name}" if "sha256:" in f"{old}{new}" else f"{name} {old}, not {new}"
            raise DataError(f"{path.parent} holds another training ({told}); name another --out.")


class _Told(torch.utils.data.Dataset[Item | DataError]):
    def __init__(self, draw: Callable[[int], Item]) -> None:
        self.draw = draw

    def __getitem__(self, number: int) -> Item | DataError:
        try:
            return self.draw(number)
        except DataError as error:
            return error


def _as_drawn(item: Item) -> Item:
    """What was drawn, not tensors of it."""
    return item


def _start_worker(_: int) -> None:
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


def read_ahead(draw: Callable[[int], Item], numbers: range, workers: int) -> Iterator[Item]:
    """What ``draw`` gives for each number in turn, drawn ahead by so many processes (0: none, drawn when asked).

    Raises
    ------
    DataError
        As ``draw`` raised it, without the process's traceback.
    """
    loader: torch.utils.data.DataLoader[Item | DataError] = torch.utils.data.DataLoader(
        _Told(draw),
        batch_size=None,
        collate_fn=_as_drawn,
        sampler=numbers,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        worker_init_fn=_start_worker,
    )
    for item in loader:
        if isinstance(item, DataError):
            raise item
        yield item


def finite(*values: torch.Tensor) -> None:
    """Raise where a loss, a figure or a weight is no finite number.

    Raises
    ------
    FloatingPointError
        One of them is none.
    """
    if not all(bool(torch.isfinite(one).all()) for one in values):
        raise FloatingPointError(
            "the training diverged: a loss or a weight is no finite number; lower the learning rate"
        )


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
