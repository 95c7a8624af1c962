"""Real peers on free loopback ports: the gateway as a process, Orthanc, DCMTK, and an archive that obeys."""

import contextlib
import json
import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pynetdicom import AE, evt
from pynetdicom.presentation import AllStoragePresentationContexts

HERE = Path(__file__).resolve().parent
STAND_IN = HERE / "stand_in.py"
DEADLINE_S = 60.0


def free_port() -> int:
    """A loopback port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(state: Callable[[], Any], what: str, deadline_s: float = DEADLINE_S) -> Any:
    """The first true value of ``state``, asked again and again; fails the test at the deadline."""
    end = time.monotonic() + deadline_s
    pause = threading.Event()
    while not (value := state()):
        if time.monotonic() > end:
            pytest.fail(f"{what}: not within {deadline_s:g} s")
        pause.wait(0.05)
    return value


def find_program(name: str) -> str:
    """The path of a program; a test that needs a missing one skips, or fails in CI."""
    # Not a script of some Python environment: pynetdicom brings commands of the same names as DCMTK's.
    folders = [*os.environ.get("PATH", "").split(os.pathsep), "/usr/sbin", "/usr/local/sbin"]
    there = (shutil.which(name, path=folder) for folder in folders if folder)
    found = next((one for one in there if one and not _is_script(one)), None)
    if found is None:
        if os.environ.get("CI", "").lower() in {"true", "1"}:
            pytest.fail(f"{name} is not here, and CI has everything")
        pytest.skip(f"{name} is not here")
    return found


def _is_script(program: str) -> bool:
    with Path(program).open("rb") as file:
        return file.read(2) == b"#!"


def storescu(port: int, files: Sequence[Path], *, calling: str = "PACS", options: Sequence[str] = ()) -> Any:
    """Send files with DCMTK; the finished process with its output."""
    command = [
        find_program("storescu"),
        "-v",
        "-aet",
        calling,
        "-aec",
        "ANOSKIN",
        *options,
        "127.0.0.1",
        str(port),
    ]
    command += [str(file) for file in files]
    return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)


def echoscu(port: int, *, calling: str = "PACS", called: str = "ANOSKIN") -> int:
    """Exit status of DCMTK's C-ECHO."""
    command = [find_program("echoscu"), "-aet", calling, "-aec", called, "127.0.0.1", str(port)]
    return subprocess.run(command, capture_output=True, timeout=DEADLINE_S, check=False).returncode


@dataclass
class Gateway:
    """A ``gateway serve`` process with a folder of its own.

    ``entry`` is the command: by default the command line with a stand-in for the treatment.
    """

    folder: Path
    archive_port: int
    entry: Sequence[str] = (sys.executable, str(STAND_IN))
    conf_text: Mapping[str, str] = field(default_factory=dict)
    environ: Mapping[str, str] = field(default_factory=dict)
    process: "subprocess.Popen[str] | None" = None
    port: int = 0

    def __post_init__(self) -> None:
        self.lines: queue.Queue[str] = queue.Queue()
        self.folder.mkdir(parents=True, exist_ok=True)
        sections = {
            "listener": "port = 0",
            "peers": 'ae_title = "PACS"',
            "spool": 'folder = "spool"\nreserve_mb = 1',
            "ledger": 'folder = "state"',
            "arrival": "quiet_s = 0.4",
            "archive": f"port = {self.archive_port}\ninitial_s = 0.5\nmax_s = 2.0\ntimeout_s = 10.0",
            "pseudonyms": 'key_file = "state/pseudonym.key"',
            **self.conf_text,
        }
        texts = [
            f"[[{name}]]\n{body}" if name == "peers" else f"[{name}]\n{body}"
            for name, body in sections.items()
        ]
        self.conf.write_text("\n\n".join(texts), encoding="utf-8")

    @property
    def conf(self) -> Path:
        return self.folder / "gateway.toml"

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """One of the other commands, to its end."""
        command = [*self.entry, *arguments, "--conf", str(self.conf)]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=DEADLINE_S, check=False, env=self._env()
        )

    def start(self) -> "Gateway":
        """Start ``serve`` and wait until it is ready."""
        state = self.folder / "state"
        if not state.is_dir() and str(STAND_IN) in self.entry:
            state.mkdir()  # all that the stand-in needs of `gateway init`
        elif not state.is_dir():
            assert self.run("init").returncode == 0
        command = [*self.entry, "serve", "--conf", str(self.conf)]
        process = subprocess.Popen(
            command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=self._env()
        )
        self.process = process
        self.lines = queue.Queue()
        self.reader = threading.Thread(target=self._read, args=(process,), daemon=True)
        self.reader.start()
        self.port = int(self.wait_for("service.ready")["port"])
        return self

    def wait_for(self, event: str, deadline_s: float = DEADLINE_S) -> dict[str, Any]:
        """The next log line with this event; earlier lines are passed over."""
        end = time.monotonic() + deadline_s
        while True:
            try:
                line = self.lines.get(timeout=max(0.01, end - time.monotonic()))
            except queue.Empty:
                pytest.fail(f"the gateway did not say {event} within {deadline_s:g} s")
            if not line:
                pytest.fail(f"the gateway ended before it said {event}")
            record = json.loads(line)
            if record["event"] == event:
                return dict(record)

    def kill(self) -> None:
        """SIGKILL: no chance to put anything in order."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(DEADLINE_S)
        self.reader.join(DEADLINE_S)

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(DEADLINE_S)
        self.reader.join(DEADLINE_S)
        return status

    def counts(self) -> dict[str, int]:
        """Instances by state, from ``gateway status``."""
        return dict(json.loads(self.run("status", "--json").stdout))

    def _read(self, process: "subprocess.Popen[str]") -> None:
        assert process.stderr is not None
        with process.stderr, (self.folder / "log.jsonl").open("a", encoding="utf-8") as copy:
            for line in process.stderr:
                copy.write(line)
                copy.flush()
                self.lines.put(line)
        self.lines.put("")

    def _env(self) -> dict[str, str]:
        # pynetdicom shuts a socket down before it closes it, which fails where there was no connection.
        warnings = "error,ignore::ResourceWarning"
        return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": warnings, **self.environ}


@contextlib.contextmanager
def gateway(folder: Path, archive_port: int, **options: Any) -> Iterator[Gateway]:
    """A running gateway, ended with the test."""
    made = Gateway(folder, archive_port, **options)
    try:
        yield made.start()
    finally:
        if made.process is not None and made.process.poll() is None:
            made.kill()


@contextlib.contextmanager
def orthanc(folder: Path, port: int | None = None) -> Iterator["Orthanc"]:
    """A running Orthanc that accepts anything from this machine."""
    peer = Orthanc(folder, port or free_port(), free_port())
    peer.start()
    try:
        yield peer
    finally:
        peer.stop()


@dataclass
class Orthanc:
    """An Orthanc server as the archive."""

    folder: Path
    port: int
    http_port: int
    process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        conf = {
            "Name": "archive",
            "StorageDirectory": str(self.folder / "db"),
            "IndexDirectory": str(self.folder / "db"),
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "HttpPort": self.http_port,
            "DicomPort": self.port,
            "DicomAet": "ARCHIVE",
            "DicomCheckCalledAet": False,
            "DicomAlwaysAllowStore": True,
            "Plugins": [],
        }
        file = self.folder / "orthanc.json"
        file.write_text(json.dumps(conf), encoding="utf-8")
        with (self.folder / "orthanc.log").open("ab") as out:
            self.process = subprocess.Popen([find_program("Orthanc"), str(file)], stdout=out, stderr=out)
        wait_until(self._answers, "Orthanc answers")

    def stop(self) -> None:
        """End it."""
        assert self.process is not None
        self.process.terminate()
        self.process.wait(DEADLINE_S)

    def get(self, path: str) -> Any:
        """A JSON answer of its REST interface."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}{path}", timeout=10) as answer:
            return json.load(answer)

    def uids(self) -> list[str]:
        """SOP Instance UIDs it holds."""
        return [found["MainDicomTags"]["SOPInstanceUID"] for found in self.get("/instances?expand")]

    def files(self) -> list[bytes]:
        """The DICOM files it holds."""
        found = []
        for name in self.get("/instances"):
            url = f"http://127.0.0.1:{self.http_port}/instances/{name}/file"
            with urllib.request.urlopen(url, timeout=10) as answer:
                found.append(answer.read())
        return found

    def _answers(self) -> bool:
        assert self.process is not None and self.process.poll() is None, "Orthanc ended by itself"
        with contextlib.suppress(OSError):
            self.get("/system")
            return True
        return False


class Archive:
    """A storage SCP in this process that counts what it gets and answers as it is told."""

    def __init__(self, port: int | None = None, status: Callable[[str], int] = lambda _uid: 0x0000) -> None:
        self.port = port or free_port()
        self.status = status
        self.asked: Counter[str] = Counter()
        self.stored: Counter[str] = Counter()
        self.associations = 0
        self._entity = AE("ARCHIVE")
        for context in AllStoragePresentationContexts:
            self._entity.add_supported_context(context.abstract_syntax, _SYNTAXES)
        self._server: Any = None

    def __enter__(self) -> "Archive":
        handlers: list[Any] = [(evt.EVT_C_STORE, self._store), (evt.EVT_ESTABLISHED, self._count)]
        self._server = self._entity.start_server(("127.0.0.1", self.port), block=False, evt_handlers=handlers)
        return self

    def __exit__(self, *_: object) -> None:
        self._entity.shutdown()

    def _count(self, _event: Any) -> None:
        self.associations += 1

    def _store(self, event: Any) -> int:
        uid = str(event.request.AffectedSOPInstanceUID)
        self.asked[uid] += 1
        status = self.status(uid)
        if status == 0x0000:
            self.stored[uid] += 1
        return status


_SYNTAXES = [
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.2",
    "1.2.840.10008.1.2.4.50",
    "1.2.840.10008.1.2.4.80",
    "1.2.840.10008.1.2.4.90",
    "1.2.840.10008.1.2.5",
]
