"""The gateway under demonstration: the real command as a process of its own, on a free loopback port."""

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from pydicom import Dataset
from pynetdicom import AE

import gateway
from gateway import settings
from gateway.demo import archive
from gateway.demo.cases import KEEP_MOST, Rule
from gateway.errors import GatewayError, Misconfigured
from gateway.settings import Settings

AE_TITLE, SENDER = "ANOSKIN", "DEMO"
READY_S = 180.0
END_S = 60.0
SUCCESS = 0x0000


def installation() -> Path:
    """The folder with ``conf`` and ``bundles`` of this installation.

    Raises
    ------
    Misconfigured
        The package was installed without them.
    """
    root = Path(gateway.__file__).resolve().parents[1]
    bundle = Path(os.environ.get("ANOSKIN_MODELS_BUNDLE", root / "bundles" / "nano"))
    if not (bundle / "bundle.toml").is_file():
        raise Misconfigured(
            f"The demonstration needs the nano model bundle, and there is none at {bundle}: run it from a checkout "
            "of the project (pip install -e '.[demo]'), or set ANOSKIN_MODELS_BUNDLE to the bundle's folder."
        )
    return root


def configure(file: Path, rule: Rule, archive_port: int) -> Settings:
    """Write the configuration of a small installation beside ``file``, and read it as the gateway will.

    Raises
    ------
    Misconfigured
        There is no model bundle or profile.
    """
    root = installation()
    sections: Mapping[str, Mapping[str, Any]] = {
        "listener": {"ae_title": AE_TITLE, "host": "127.0.0.1", "port": 0},
        "peers": {"ae_title": SENDER},
        "spool": {"folder": "spool", "reserve_mb": 64},
        "ledger": {"folder": "state"},
        "arrival": {"quiet_s": 1.0},
        "archive": {
            "ae_title": archive.AE_TITLE,
            "host": "127.0.0.1",
            "port": archive_port,
            "initial_s": 1.0,
        },
        "pseudonyms": {"key_file": "state/pseudonym.key"},
        "profile": {"file": str(root / "conf" / "profiles" / "basic.toml")},
        "pixels": {"lesion_over_features": rule, "keep_most": KEEP_MOST[rule]},
        "models": {"bundle": str(root / "bundles" / "nano"), "allow_demonstration_models": True},
    }
    lines = []
    for name, keys in sections.items():
        lines.append(f"[[{name}]]" if name == "peers" else f"[{name}]")
        # JSON writes texts, numbers and truth as TOML does.
        lines += [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in keys.items()]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return settings.load(file, _environment())


def _environment() -> dict[str, str]:
    """Ours, without what would turn the demonstration into another gateway."""
    kept = {"ANOSKIN_MODELS_BUNDLE", "ANOSKIN_MODELS_THREADS"}
    return {name: v for name, v in os.environ.items() if not name.startswith("ANOSKIN_") or name in kept}


class Service:
    """``gateway serve`` from entering to leaving its context.

    Parameters
    ----------
    conf
        Its configuration file.
    log
        Where a copy of what it says is added.
    """

    def __init__(self, conf: Path, log: Path) -> None:
        self._conf = conf
        self._log = log
        self._events: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._process: subprocess.Popen[str] | None = None
        self._port = 0

    def __enter__(self) -> "Service":
        self._command("init")
        self._process = subprocess.Popen(  # noqa: S603 - our own command
            self._line("serve"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=_environment(),
        )
        threading.Thread(target=self._read, args=(self._process,), daemon=True).start()
        try:
            self._port = int(self._until("service.ready", READY_S)["port"])
        except GatewayError:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def send(self, ds: Dataset) -> int:
        """One C-STORE over an association of its own; the status, 0x0000 for success.

        Raises
        ------
        GatewayError
            The association was not accepted.
        """
        entity = AE(SENDER)
        entity.add_requested_context(ds.SOPClassUID, ds.file_meta.TransferSyntaxUID)
        association = entity.associate("127.0.0.1", self._port, ae_title=AE_TITLE)
        if not association.is_established:
            raise GatewayError("the gateway did not accept an association of the demonstration")
        try:
            answer = association.send_c_store(ds)
        finally:
            association.release()
        return int(answer.Status) if "Status" in answer else -1

    def event(self, timeout_s: float) -> dict[str, Any] | None:
        """The next thing the gateway said; ``None`` where it says nothing in time, or no more."""
        try:
            return self._events.get(timeout=timeout_s)
        except queue.Empty:
            return None

    def _until(self, name: str, timeout_s: float) -> dict[str, Any]:
        while (said := self.event(timeout_s)) is not None:
            if said.get("event") == name:
                return said
        raise GatewayError(f"the gateway did not start; what it said is in {self._log}")

    def _line(self, command: str) -> list[str]:
        return [sys.executable, "-m", "gateway.cli", command, "--conf", str(self._conf)]

    def _command(self, name: str) -> None:
        done = subprocess.run(  # noqa: S603 - our own command
            self._line(name), capture_output=True, text=True, env=_environment(), timeout=READY_S, check=False
        )
        if done.returncode:
            raise GatewayError(f"gateway {name} failed: {done.stderr.strip()}")

    def _read(self, process: "subprocess.Popen[str]") -> None:
        assert process.stderr is not None
        with self._log.open("a", encoding="utf-8") as copy:
            for line in process.stderr:
                copy.write(line)
                copy.flush()
                try:
                    self._events.put(dict(json.loads(line)))
                except ValueError:
                    continue  # something outside the gateway's own log, kept in the copy
        self._events.put(None)

    def _end(self) -> None:
        """Ask the process to end, by its id; make it end where it does not."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(END_S)
