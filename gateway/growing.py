"""The file an object grows in while it is received: its digest is ready with its last byte, a full disk is an answer.

pynetdicom writes what arrives into one of Python's temporary files, in the thread that reads the network: an error
there ends the association without an answer and leaves on the full disk what was written. `install` has it use a
`Growing` instead, which lets go of what it has and takes in the rest without keeping it, so that the sender is told.
"""

import contextlib
import hashlib
import os
import weakref
from collections.abc import Callable
from pathlib import Path
from tempfile import mkstemp
from typing import Any

from pynetdicom import dimse_messages

from gateway.errors import GatewayError, Outcome, Postponed
from gateway.header import Unparsable

STRIDE_BYTES = 16 << 20
"""How much may grow before room is asked for again."""
_META_BYTES = 144
"""Preamble, prefix and the element with the length of the rest of the file meta information (PS3.10 7.1)."""


class Growing:
    """One object in a file of its own, which goes when this is closed or forgotten.

    Parameters
    ----------
    folder
        Where the file is made.
    max_bytes
        Largest data set that is kept.
    check_room
        Raises an `Outcome` where nothing more may be written.

    Attributes
    ----------
    path
        The file.
    """

    def __init__(self, folder: Path, max_bytes: int, check_room: Callable[[], None]) -> None:
        self._max_bytes = max_bytes
        self._check_room = check_room
        self._problem: GatewayError | None = None
        self._meta = b""
        self._start = 0
        self._size = 0
        self._asked_at = 0
        self._digest = hashlib.sha256()
        self.path = folder
        self._close: Callable[[], object] = lambda: None
        self._descriptor = -1
        try:
            check_room()
            self._descriptor, name = mkstemp(".dcm", dir=folder)
        except (OSError, Outcome) as error:
            self._give_up(error)
        else:
            self.path = Path(name)
            self._close = weakref.finalize(self, _remove, self._descriptor, self.path)

    @property
    def name(self) -> str:
        """The file's path; the folder's where there is no file."""
        return str(self.path)

    @property
    def file(self) -> "Growing":
        """The same; pynetdicom looks here for ``flush``."""
        return self

    @property
    def sha256(self) -> str:
        """Digest, hexadecimal, of the data set, without the file meta before it."""
        return self._digest.hexdigest()

    def check(self) -> None:
        """Return in silence where everything that came is in the file.

        Raises
        ------
        Postponed
            The disk did not take it.
        Unparsable
            It is larger than accepted.
        """
        if self._problem is not None:
            raise self._problem

    def write(self, data: bytes) -> int:
        """Add what arrived; never raises, because nobody could answer."""
        self._size += len(data)
        if self._problem is None:
            self._count(data)
            try:
                self._check()
                rest = memoryview(data)
                while rest:
                    rest = rest[os.write(self._descriptor, rest) :]
            except (OSError, GatewayError) as error:
                self._give_up(error)
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """Remove the file; what was kept has another name by now."""
        self._close()

    def _count(self, data: bytes) -> None:
        """Take the data set's share of ``data`` into the digest."""
        if not self._start:
            self._meta += data
            start = _META_BYTES + int.from_bytes(self._meta[140:_META_BYTES], "little")
            if len(self._meta) < start:
                return
            self._start, data = start, self._meta[start:]
        self._digest.update(data)

    def _check(self) -> None:
        if self._start and self._size - self._start > self._max_bytes:
            raise Unparsable("the object is larger than [listener] max_object_mb")
        if self._size - self._asked_at > STRIDE_BYTES:
            self._asked_at = self._size
            self._check_room()

    def _give_up(self, error: Exception) -> None:
        if isinstance(error, OSError):
            self._problem = Postponed("spool", f"the spool cannot be written ({error.strerror})")
        elif isinstance(error, GatewayError):
            self._problem = error
        self._close()


def install(grow: Callable[[], Growing]) -> None:
    """Have pynetdicom receive into what ``grow`` makes, in this process, from the next object on."""

    def named_temporary_file(**_: Any) -> Growing:
        return grow()

    dimse_messages.NamedTemporaryFile = named_temporary_file  # type: ignore[assignment,attr-defined]


def _remove(descriptor: int, path: Path) -> None:
    with contextlib.suppress(OSError):
        os.close(descriptor)
    path.unlink(missing_ok=True)
