"""What processes of tests are told to do; here, where a process that was just started can find it."""

import os
import signal
import threading
from collections.abc import Callable

from gateway.errors import Misconfigured


def obedient() -> Callable[[str], str]:
    """Does what each task says: ``die``, ``stay`` for ever, or be shouted back."""

    def treat(task: str) -> str:
        if task == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if task == "stay":
            threading.Event().wait()
        return task.upper()

    return treat


def misconfigured() -> Callable[[str], str]:
    """Cannot begin."""
    raise Misconfigured("the key is missing")


def stillborn() -> Callable[[str], str]:
    """Dies before it begins."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError
