"""Memory that this process shares with a Triton server on the same machine, so that pictures are not sent over gRPC.

A region's name leaves ``/dev/shm`` as soon as the server has opened it: nothing of a photograph stays there when this
process is killed.
"""

import contextlib
import mmap
import os
import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

FOLDER = Path("/dev/shm")  # noqa: S108 - where POSIX shared memory has its names on Linux
LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})
STEP_BYTES = 1 << 20
ANSWER_S = 5.0


@dataclass(frozen=True, slots=True)
class Region:
    """A piece of memory that a server knows by ``name``."""

    name: str
    memory: mmap.mmap

    def write(self, inputs: list[InferInput], arrays: Mapping[str, NDArray[Any]]) -> int:
        """Put the arrays one after the other into the region and point the inputs there; returns where they end."""
        start = 0
        for given in inputs:
            array = np.ascontiguousarray(arrays[given.name()])
            self.memory[start : start + array.nbytes] = array.tobytes()
            given.set_shared_memory(self.name, array.nbytes, offset=start)
            start += array.nbytes
        return start

    def expect(self, output: InferRequestedOutput, start: int, size_bytes: int) -> None:
        """Have the output written at ``start``."""
        output.set_shared_memory(self.name, size_bytes, offset=start)

    def read(self, start: int, shape: tuple[int, ...], dtype: "np.dtype[Any]") -> NDArray[Any]:
        """A copy of what lies at ``start``."""
        count = int(np.prod(shape))
        return np.frombuffer(self.memory, dtype, count, offset=start).reshape(shape).copy()


class Regions:
    """The regions shared with one server; each is in the hands of one request at a time.

    Parameters
    ----------
    client
        The server's.
    wanted
        Whether to share memory at all.
    """

    def __init__(self, client: InferenceServerClient, *, wanted: bool) -> None:
        self._client = client
        self._wanted = wanted and FOLDER.is_dir()
        self._free: list[Region] = []
        self._known: set[str] = set()
        self._lock = threading.Lock()

    def take(self, size_bytes: int) -> Region | None:
        """A region of at least that size; ``None`` where the server cannot share this machine's memory."""
        if not self._wanted:
            return None
        with self._lock:
            for region in self._free:
                if len(region.memory) >= size_bytes:
                    self._free.remove(region)
                    return region
        return self._make(-(-size_bytes // STEP_BYTES) * STEP_BYTES)

    def give_back(self, region: Region) -> None:
        """Keep a region for the next request; only one whose request was answered, or the server might write later."""
        with self._lock:
            self._free.append(region)

    def forget(self) -> None:
        """Use no region again: a server that was started anew knows none, a slow one may yet write to them."""
        with self._lock:
            self._free.clear()

    def close(self) -> None:
        """Have the server let go of all regions too."""
        with self._lock:
            known, self._known = self._known, set()
            self._free.clear()
        for name in known:
            with contextlib.suppress(InferenceServerException):
                self._client.unregister_system_shared_memory(name, client_timeout=ANSWER_S)

    def _make(self, size_bytes: int) -> Region | None:
        name = f"anoskin-{uuid.uuid4().hex}"
        path = FOLDER / name
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, size_bytes)
            memory = mmap.mmap(descriptor, size_bytes)
            self._client.register_system_shared_memory(name, f"/{name}", size_bytes, client_timeout=ANSWER_S)
        except OSError:  # /dev/shm is full, as in a container with little of it
            self._wanted = False
            return None
        except InferenceServerException as error:
            # Anything but silence is a server that does not see this memory: another container, another user.
            if str(error.status()) not in {"StatusCode.UNAVAILABLE", "StatusCode.DEADLINE_EXCEEDED"}:
                self._wanted = False
            return None
        finally:
            os.close(descriptor)
            path.unlink(missing_ok=True)
        with self._lock:
            self._known.add(name)
        return Region(name, memory)
