"""A live Triton server for tests: started once, on free ports, with the nano bundle."""

import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parent.parent
NANO = ROOT / "bundles" / "nano"


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The nano bundle exported, and adapted to a small machine: one instance of each model, one thread each."""
    from inference.export import export

    folder = tmp_path_factory.mktemp("triton") / "model_repository"
    export(NANO, folder, ROOT / "model_repository")
    for conf in folder.glob("*/config.pbtxt"):
        text = conf.read_text(encoding="utf-8").replace("count: 2", "count: 1")
        text, changed = re.subn(r'(key: "threads" value { string_value: )"0"', r'\1"1"', text)
        assert changed
        conf.write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def triton(repository: Path) -> Iterator["Triton"]:
    """A running server, the same one for all tests; one that ends or kills it starts it again."""
    from inference.tritonserver import is_available

    if not is_available():
        if os.environ.get("CI", "").lower() in {"true", "1"}:
            pytest.fail("nvidia-pytriton is not here, and CI has everything")
        pytest.skip("there is no Triton server here: the wheel nvidia-pytriton is not installed")
    server = Triton(repository)
    try:
        server.start()
        server.wait_until_ready()
        yield server
    finally:
        server.stop()


class Triton:
    """A server that tests may mistreat."""

    def __init__(self, repository: Path) -> None:
        from inference.tritonserver import Ports, Server

        self._log = (repository.parent / "server.log").open("ab")
        self._server = Server(repository, Ports.free(), self._log, {"OMP_NUM_THREADS": "1"})
        self.start = self._server.start
        self.kill = self._server.kill
        self.wait_until_ready = self._server.wait_until_ready
        self.url = f"127.0.0.1:{self._server.ports.grpc}"
        self.metrics = f"http://127.0.0.1:{self._server.ports.metrics}/metrics"

    def signal(self, number: int) -> None:
        """To the server, not to its models."""
        assert self._server.process is not None
        self._server.process.send_signal(number)

    def stubs(self, model: str) -> list[int]:
        """Process ids of a model's stubs."""
        assert self._server.process is not None
        children = psutil.Process(self._server.process.pid).children()
        alive = [child for child in children if child.status() != psutil.STATUS_ZOMBIE]
        return [
            child.pid for child in alive if any(f"/{model}/1/model.py" in word for word in child.cmdline())
        ]

    def stop(self) -> None:
        """End it, and close its log."""
        self._server.stop()
        self._log.close()


def together(calls: list["threading.Thread"]) -> None:
    """Run calls side by side to their end."""
    for call in calls:
        call.start()
    for call in calls:
        call.join()
