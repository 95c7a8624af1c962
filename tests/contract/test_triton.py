"""A live Triton server that is mistreated: what fails comes back, and nothing wrong is ever taken for an answer."""

import importlib
import os
import shutil
import signal
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from served import NANO, Triton, together
from system.peers import free_port, wait_until

from inference.bundle import BundleError, read_bundle
from inference.contract import Unavailable

pytestmark = [pytest.mark.models, pytest.mark.system, pytest.mark.filterwarnings("ignore")]

RECOVERED_S = 30.0


class Client:
    """A segmenter and an inpainter over some endpoints, and what was told about these."""

    def __init__(self, *urls: str, folder: Path = NANO, deadline_s: float = 60.0) -> None:
        from inference.endpoints import Endpoints, Terms
        from inference.triton import TritonInpainter, TritonSegmenter

        self.told: list[tuple[str, dict[str, Any]]] = []
        terms = Terms(deadline_s, told=lambda event, **fields: self.told.append((event, fields)))
        self.endpoints = Endpoints(urls, terms)
        bundle = read_bundle(folder)
        self.segmenter = TritonSegmenter(bundle, self.endpoints)
        self.inpainter = TritonInpainter(bundle, self.endpoints)
        self.views = np.zeros((1, self.segmenter.size_px, self.segmenter.size_px, 3), np.uint8)

    def segment(self) -> Any:
        return self.segmenter.segment(self.views)

    def answers(self) -> bool:
        try:
            self.segment()
        except Unavailable:
            return False
        return True

    def events(self) -> list[str]:
        return [event for event, _ in self.told]


@pytest.fixture
def client(triton: Triton) -> Iterator[Client]:
    made = Client(triton.url)
    yield made
    made.endpoints.close()


def test_a_killed_model_that_still_calls_itself_ready_is_brought_back(triton: Triton, client: Client) -> None:
    before = client.segment()
    (stub,) = triton.stubs("pointrend")
    os.kill(stub, signal.SIGKILL)
    assert np.array_equal(client.segment(), before)
    assert client.events() == ["models.revived"]
    assert client.told[0][1]["model"] == "pointrend"
    (fresh,) = triton.stubs("pointrend")
    assert fresh != stub


def test_an_inpainter_killed_while_it_paints_is_brought_back_and_paints_the_same(
    triton: Triton, client: Client
) -> None:
    side = client.inpainter.size_px
    grey, hide = np.full((1, side, side, 3), 128, np.uint8), np.ones((1, side, side), np.bool_)
    before = client.inpainter.inpaint(grey, hide, ["a face"], [3])
    answers: list[Any] = []
    caller = threading.Thread(
        target=lambda: answers.append(client.inpainter.inpaint(grey, hide, ["a face"], [3]))
    )
    (stub,) = triton.stubs("inpaint")
    busy_s = sum(psutil.Process(stub).cpu_times()[:2])
    caller.start()
    wait_until(lambda: sum(psutil.Process(stub).cpu_times()[:2]) > busy_s, "it paints")
    os.kill(stub, signal.SIGKILL)
    caller.join()
    assert np.array_equal(answers[0], before)
    assert client.events() == ["models.revived"]
    (fresh,) = triton.stubs("inpaint")
    assert fresh != stub
    # What keeps the gateway waiting is the work of the new process; the clock would tell how busy the machine is.
    assert sum(psutil.Process(fresh).cpu_times()[:2]) < RECOVERED_S


def test_a_model_that_dies_under_several_callers_is_loaded_again_once(triton: Triton, client: Client) -> None:
    before = client.segment()
    answers: list[Any] = []
    callers = [threading.Thread(target=lambda: answers.append(client.segment())) for _ in range(3)]
    (stub,) = triton.stubs("pointrend")
    os.kill(stub, signal.SIGKILL)
    together(callers)
    assert len(answers) == 3
    assert all(np.array_equal(answer, before) for answer in answers)
    assert client.events() == ["models.revived"]


def test_a_model_that_is_not_loaded_is_loaded(triton: Triton, client: Client) -> None:
    control = importlib.import_module("tritonclient.grpc").InferenceServerClient(triton.url)
    control.unload_model("pointrend")
    wait_until(lambda: not control.is_model_ready("pointrend"), "the model is gone")
    control.close()
    client.segment()
    assert client.events() == ["models.revived"]


def test_a_server_that_hangs_is_left_at_the_deadline_and_found_again(triton: Triton) -> None:
    client = Client(triton.url, deadline_s=2.0)
    client.segment()
    triton.signal(signal.SIGSTOP)
    try:
        with pytest.raises(Unavailable, match="deadline exceeded"):
            client.segment()
    finally:
        triton.signal(signal.SIGCONT)
    wait_until(client.answers, "the server is found again")
    assert client.events()[0] == "models.away"
    assert client.events()[-1] == "models.back"
    client.endpoints.close()


def test_another_server_answers_where_one_is_away(triton: Triton) -> None:
    nobody = f"127.0.0.1:{free_port()}"
    client = Client(nobody, triton.url)
    for _ in range(4):
        client.segment()
    assert [fields["endpoint"] for _, fields in client.told] == [nobody]
    client.endpoints.close()


def test_a_server_that_brings_a_model_back_is_asked_last(
    triton: Triton, monkeypatch: pytest.MonkeyPatch
) -> None:
    from inference.endpoints import Endpoint

    nobody = f"127.0.0.1:{free_port()}"
    monkeypatch.setattr(Endpoint, "checks", property(lambda self: self.url == nobody))
    client = Client(nobody, triton.url)
    for _ in range(4):
        client.segment()
    assert client.events() == []
    client.endpoints.close()


def test_nobody_there_is_said_so() -> None:
    pytest.importorskip("tritonclient.grpc")
    client = Client(f"127.0.0.1:{free_port()}")
    with pytest.raises(Unavailable, match="no Triton server answers"):
        client.segment()
    with pytest.raises(Unavailable, match="a moment ago"):
        client.segment()
    client.endpoints.close()


def test_a_server_with_another_bundle_is_not_asked_for_answers(triton: Triton, tmp_path: Path) -> None:
    folder = tmp_path / "other"
    shutil.copytree(NANO, folder)
    manifest = folder / "bundle.toml"
    text = manifest.read_text(encoding="utf-8")
    digest = next(line for line in text.splitlines() if line.startswith('"segmenter/')).split('"')[3]
    manifest.write_text(text.replace(digest, "0" * 64), encoding="utf-8")
    client = Client(triton.url, folder=folder)
    with pytest.raises(Unavailable, match="another bundle"):
        client.segment()
    client.endpoints.close()


def test_an_inpainter_asked_to_hide_nothing_gives_the_picture_back(client: Client) -> None:
    side = client.inpainter.size_px
    pictures = np.random.default_rng(1).integers(0, 256, (1, side, side, 3), np.uint8)
    assert np.array_equal(
        client.inpainter.inpaint(pictures, np.zeros((1, side, side), np.bool_), [""], [0]), pictures
    )


def test_nothing_of_a_photograph_stays_in_shared_memory_by_name(client: Client) -> None:
    client.segment()
    assert list(Path("/dev/shm").glob("anoskin-[0-9a-f]*")) == []


def test_the_server_counts_what_it_answers(triton: Triton, client: Client) -> None:
    client.segment()
    with urllib.request.urlopen(triton.metrics, timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    counted = [line for line in lines if line.startswith('nv_inference_count{model="pointrend"')]
    assert float(counted[0].rsplit(" ", 1)[1]) >= 1


def test_an_address_that_is_none_is_refused_before_anything_is_loaded() -> None:
    pytest.importorskip("tritonclient.grpc")
    from inference.triton import Terms, load_models

    with pytest.raises(BundleError, match="host:port"):
        load_models(NANO, ["http://gpu1:8001"], Terms(1.0))
