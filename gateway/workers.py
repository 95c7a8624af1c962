"""Processes that work on tasks one by one: a task that kills its process or never ends costs only itself.

Decoders are written in C and read what strangers sent. Here such a process may die; the others go on, and what it
was working on comes back as a :class:`Lost`.
"""

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar

from gateway.errors import GatewayError, Misconfigured

T = TypeVar("T")
R = TypeVar("R")
Start = Callable[[], Callable[[T], R]]
"""Called once in each process, gives what treats its tasks; both, and tasks and results, can be pickled."""

_CONTEXT = get_context("spawn")  # a fork of a process that has threads may stop for ever


@dataclass(frozen=True, slots=True)
class Lost:
    """A task that has no result.

    Attributes
    ----------
    late
        It took longer than allowed; otherwise its process died.
    """

    late: bool


def each(tasks: Sequence[T], start: Start[T, R], jobs: int, limit_s: float) -> Iterator[R | Lost]:
    """The results of tasks, in their order, as soon as that allows.

    Parameters
    ----------
    tasks
        What is to be done.
    start
        Run in each process first.
    jobs
        Number of processes, 1 or more.
    limit_s
        Seconds one task may take.

    Raises
    ------
    Misconfigured
        ``start`` raised it.
    GatewayError
        A process died before it could take a task.
    """
    waiting = list(reversed(range(len(tasks))))
    done: dict[int, R | Lost] = {}
    crew: list[_Worker[T, R]] = []
    following = 0
    try:
        while following < len(tasks):
            crew += [_Worker(start) for _ in range(min(jobs, len(waiting) + _busy(crew)) - len(crew))]
            for worker in _answering(crew):
                number, result = worker.answer()
                if number is not None and result is not None:
                    done[number] = result
                if worker.gone:
                    crew.remove(worker)
                elif waiting:
                    number = waiting.pop()
                    worker.give(number, tasks[number], limit_s)
            while following in done:
                yield done.pop(following)
                following += 1
    finally:
        for worker in crew:
            worker.end()


def _busy(crew: "Sequence[_Worker[Any, Any]]") -> int:
    return sum(worker.number is not None for worker in crew)


def _answering(crew: "Sequence[_Worker[T, R]]") -> "list[_Worker[T, R]]":
    """Workers that have something to say, or whose time is over."""
    soonest = min((worker.deadline for worker in crew), default=float("inf"))
    timeout = None if soonest == float("inf") else max(0.0, soonest - time.monotonic())
    heard = wait([worker.pipe for worker in crew], timeout)
    now = time.monotonic()
    return [worker for worker in crew if worker.pipe in heard or worker.deadline <= now]


class _Worker(Generic[T, R]):
    """One process and the task it has."""

    def __init__(self, start: Start[T, R]) -> None:
        self.pipe, other = _CONTEXT.Pipe()
        self._process = _CONTEXT.Process(target=_work, args=(start, other), daemon=True)
        self._process.start()
        other.close()
        self.number: int | None = None
        self.deadline = float("inf")  # reading models may take as long as it takes
        self.gone = False
        self._ready = False

    def give(self, number: int, task: T, limit_s: float) -> None:
        """Have it work on a task."""
        self.number, self.deadline = number, time.monotonic() + limit_s
        with suppress(OSError):  # it died meanwhile, which its answer will tell
            self.pipe.send(task)

    def answer(self) -> tuple[int | None, R | Lost | None]:
        """The task it had and what came of it; nothing of both when it has just become ready."""
        number, result = self.number, None
        try:
            result = self.pipe.recv() if self.pipe.poll() else Lost(late=True)
        except (EOFError, OSError):
            result = Lost(late=False)
        self.number, self.deadline = None, float("inf")
        if isinstance(result, Misconfigured):
            raise result
        if isinstance(result, Lost):
            self.end()
            if not self._ready:
                raise GatewayError("a working process ended before it could begin; is there enough memory?")
        self._ready = True
        return number, result

    def end(self) -> None:
        """Kill it: whatever it has not handed over is not wanted."""
        self.gone = True
        self._process.kill()
        self._process.join()
        self.pipe.close()


def _work(start: Start[T, R], pipe: "Connection[Any, Any]") -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends its children
    try:
        treat = start()
    except Misconfigured as error:
        pipe.send(error)
        return
    pipe.send(None)
    with suppress(EOFError):
        while True:
            pipe.send(treat(pipe.recv()))
