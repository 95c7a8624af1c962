"""A Triton server on this machine, from the wheel ``nvidia-pytriton``: for trying and testing, not for production.

The wheel carries the server, its Python backend and a stub for each version of Python; its own Python code is not
used. Models run in processes of this environment.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import threading
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import IO

from inference.wire import PARTS

HOST = "127.0.0.1"
EXIT_S = 10.0
READY_S = 180.0
SHARED = Path("/dev/shm")  # noqa: S108 - where POSIX shared memory has its names on Linux
INSTALL = "pip install --no-deps nvidia-pytriton==0.7.0 (Linux on x86-64, glibc 2.35 or newer)"


class ServerError(Exception):
    """The server cannot be started; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the server listens, on the loopback interface."""

    grpc: int = 8001
    http: int = 8000
    metrics: int = 8002

    @staticmethod
    def free() -> "Ports":
        """Three ports that nobody listens on now."""
        with contextlib.ExitStack() as open_:
            probes = [open_.enter_context(socket.socket()) for _ in range(3)]
            for probe in probes:
                probe.bind((HOST, 0))
            return Ports(*(int(probe.getsockname()[1]) for probe in probes))


@dataclass(slots=True)
class Server:
    """A server for the models of a repository, running from ``start`` to ``stop`` or within a ``with`` block.

    Attributes
    ----------
    repository
        As :func:`inference.export.export` fills it.
    ports
        Where it listens.
    log
        Where its lines go; else to this process's own output.
    environ
        Variables beyond those of this process, for the models too.
    """

    repository: Path
    ports: Ports = field(default_factory=Ports)
    log: IO[bytes] | None = None
    environ: Mapping[str, str] = field(default_factory=dict)
    process: "subprocess.Popen[bytes] | None" = None
    _scratch: "TemporaryDirectory[str] | None" = None

    def __enter__(self) -> "Server":
        self.start()
        try:
            self.wait_until_ready()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start it, in a process group of its own, and do not wait for it.

        Raises
        ------
        ServerError
            The wheel is not installed, the repository lacks a model, or a port is in use.
        """
        server, stub = _wheel()
        for model in PARTS:
            if not (self.repository / model / "1" / "bundle").is_dir():
                raise ServerError(
                    f"{self.repository / model} holds no weights; run: gateway-models export BUNDLE --out "
                    f"{self.repository}"
                )
        for port in (self.ports.grpc, self.ports.http, self.ports.metrics):
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((HOST, port))
                except OSError as error:
                    raise ServerError(
                        f"Port {port} cannot be used ({error.strerror}); choose others."
                    ) from error
        self._scratch = TemporaryDirectory(prefix="anoskin-triton-")
        backends = Path(self._scratch.name)
        _lay_out(server / "backends" / "python", stub, backends / "python")
        options = {
            "model-repository": self.repository.resolve(),
            "backend-directory": backends,
            "backend-config": f"python,shm-region-prefix-name={backends.name}",
            "model-control-mode": "explicit",
            "exit-timeout-secs": int(EXIT_S / 2),
            "grpc-address": HOST,
            "http-address": HOST,
            "metrics-address": HOST,
            "grpc-port": self.ports.grpc,
            "http-port": self.ports.http,
            "metrics-port": self.ports.metrics,
        }
        command = [str(server / "bin" / "tritonserver"), "--disable-auto-complete-config"]
        command += [f"--{name}={value}" for name, value in options.items()]
        command += [f"--load-model={model}" for model in PARTS]
        self.process = subprocess.Popen(  # noqa: S603 - the wheel's own program, no shell
            command, env=self._environ(server), stdout=self.log, stderr=self.log, start_new_session=True
        )

    def wait_until_ready(self, told: threading.Event | None = None) -> None:
        """Return when its models are loaded, or when ``told`` is set.

        Raises
        ------
        ServerError
            It ended, or took too long.
        """
        assert self.process is not None
        told = told or threading.Event()
        for _ in range(int(READY_S / 0.1)):
            if self.process.poll() is not None:
                raise ServerError("The Triton server ended before it was ready; its own lines say why.")
            if self._is_ready() or told.wait(0.1):
                return
        raise ServerError(f"The Triton server was not ready within {READY_S:g} s; its own lines say why.")

    def stop(self) -> None:
        """End it: no more requests, those in hand are finished."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(EXIT_S)
        self.kill()

    def kill(self) -> None:
        """End its whole process group at once, as a crash would, and remove what it leaves in memory and on disk."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(EXIT_S)
        if self._scratch is not None:
            for left in SHARED.glob(f"{Path(self._scratch.name).name}*"):
                left.unlink(missing_ok=True)
            self._scratch.cleanup()
            self._scratch = None

    def _is_ready(self) -> bool:
        url = f"http://{HOST}:{self.ports.http}/v2/health/ready"
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
        return False

    def _environ(self, server: Path) -> dict[str, str]:
        """With this environment's Python and libraries in front, so that the models find their packages."""
        given = {**os.environ, **self.environ}
        libraries = [
            sysconfig.get_config_var("LIBDIR") or "",
            str(server.parents[1] / "nvidia_pytriton.libs"),
        ]
        front = {
            "PATH": [str(Path(sys.executable).parent)],
            "LD_LIBRARY_PATH": libraries,
            "PYTHONPATH": [str(Path(__file__).resolve().parents[1])],
        }
        for name, paths in front.items():
            given[name] = os.pathsep.join(filter(None, [*paths, given.get(name, "")]))
        return given


def serve(server: Server) -> int:
    """Run a server until told to stop (SIGTERM or Ctrl-C), or until it ends by itself: then 1, else 0.

    Raises
    ------
    ServerError
        It cannot be started, or did not become ready.
    """
    told = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: told.set())
    try:
        server.start()
        server.wait_until_ready(told)
        if not told.is_set():
            print(
                f"Ready: gRPC on {HOST}:{server.ports.grpc}, metrics on port {server.ports.metrics}.",
                flush=True,
            )
        while not told.wait(0.5):
            if server.process is None or server.process.poll() is not None:
                return 1
    finally:
        server.stop()
    return 0


def is_available() -> bool:
    """Whether the wheel is installed and has a stub for this Python."""
    try:
        _wheel()
    except ServerError:
        return False
    return True


def _wheel() -> tuple[Path, Path]:
    """The wheel's server folder and its stub for this Python.

    Raises
    ------
    ServerError
        There is none.
    """
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    spec = find_spec("pytriton")
    if spec is not None and spec.origin is not None:
        server = Path(spec.origin).parent / "tritonserver"
        stub = server / "python_backend_stubs" / version / "triton_python_backend_stub"
        if stub.is_file():
            return server, stub
    raise ServerError(
        f"There is no Triton server for Python {version} here. Install one: {INSTALL}; or use NVIDIA's container, see "
        "docs/operations.md."
    )


def _lay_out(source: Path, stub: Path, backend: Path) -> None:
    """The Python backend with this Python's stub: it looks for it beside itself, where a link would lead astray."""
    backend.mkdir()
    shutil.copyfile(source / "libtriton_python.so", backend / "libtriton_python.so")
    for file in (stub, source / "triton_python_backend_utils.py"):
        (backend / file.name).symlink_to(file)
