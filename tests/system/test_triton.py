"""``gateway serve`` with its models on a Triton server that dies: everything waits, nothing is held, all arrives."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from photographs import photograph, save, skin
from pydicom.uid import generate_uid
from served import NANO, ROOT, Triton
from skimage import data, transform
from system.peers import Archive, Gateway, gateway, storescu, wait_until

from gateway.instance import State
from gateway.ledger import Ledger
from gateway.schema import sqlite_url

pytestmark = [pytest.mark.system, pytest.mark.models]

MINUTES_S = 300.0
STUDIES, EACH = 4, 10


def photographs(folder: Path, number: int) -> list[Path]:
    """Photographs of one study: the first shows a face, the others skin."""
    folder.mkdir()
    portrait = transform.resize(data.astronaut()[:256, 96:352], (192, 192), anti_aliasing=True) * 255
    study = generate_uid()
    files = []
    for index in range(number):
        pixels = portrait.astype(np.uint8) if index == 0 else skin(seed=index)
        ds = photograph(pixels, study=study)
        files.append(save(ds, folder / f"{ds.SOPInstanceUID}.dcm"))
    return files


@pytest.fixture
def archive() -> Iterator[Archive]:
    with Archive() as made:
        yield made


@pytest.fixture
def peer(tmp_path: Path, archive: Archive, triton: Triton) -> Iterator[Gateway]:
    conf = {
        "profile": f'file = "{ROOT / "conf" / "profiles" / "basic.toml"}"',
        "models": f'bundle = "{NANO}"\nengine = "triton"\nthreads = 1\nin_flight = 2\n'
        "allow_demonstration_models = true",
        "triton": f'endpoints = ["{triton.url}"]',
        "pixels": 'text = "ignore"',
    }
    entry = (sys.executable, "-m", "gateway.cli")
    with gateway(
        tmp_path / "gateway", archive.port, entry=entry, conf_text=conf, environ={"PYTHONWARNINGS": ""}
    ) as made:
        yield made


def forwarded(peer: Gateway, number: int) -> None:
    """Wait until this many instances are forwarded, and no other state is left."""
    ledger = Ledger(sqlite_url(peer.folder / "state" / "ledger.sqlite"))
    try:
        wait_until(
            lambda: sum(ledger.counts()[state] for state in (State.RECEIVED, State.CLEARED)) == 0,
            "everything is settled",
            MINUTES_S,
        )
        counts = {state: count for state, count in ledger.counts().items() if count}
        assert counts == {State.FORWARDED: number}, [(e.reason, e.detail) for e in ledger.entries()]
    finally:
        ledger.close()


def events(peer: Gateway) -> list[str]:
    lines = (peer.folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["event"] for line in lines]


def test_a_server_killed_in_the_middle_of_forty_photographs_delays_them_and_none_is_held(
    tmp_path: Path, triton: Triton, peer: Gateway, archive: Archive
) -> None:
    files = [file for study in range(STUDIES) for file in photographs(tmp_path / str(study), EACH)]
    assert storescu(peer.port, files).returncode == 0
    for _ in range(len(files) // 4):
        peer.wait_for("instance.cleared")
    triton.kill()
    peer.wait_for("models.away")
    assert peer.wait_for("instance.postponed")["reason"] == "models"
    assert peer.counts()["received"] > 0
    triton.start()
    forwarded(peer, len(files))
    assert set(archive.stored.values()) == {1}
    assert len(archive.stored) == len(files)
    assert "models.back" in events(peer)


def test_a_model_killed_under_the_gateway_is_loaded_again_and_the_photograph_arrives(
    tmp_path: Path, triton: Triton, peer: Gateway
) -> None:
    triton.wait_until_ready()
    (stub,) = triton.stubs("pointrend")
    os.kill(stub, signal.SIGKILL)
    assert storescu(peer.port, photographs(tmp_path / "one", 1)).returncode == 0
    assert peer.wait_for("models.revived")["model"] == "pointrend"
    forwarded(peer, 1)
    assert "instance.postponed" not in events(peer)
