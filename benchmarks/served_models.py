"""A live Triton server beside the models in this process: what a call costs, and how fast what dies comes back.

    python benchmarks/served_models.py
    python benchmarks/served_models.py --data ../shared --photographs 40

With photographs, instead: portraits go through the gateway twice, once with each engine; the server is killed when a
quarter is done and started again ten seconds later. Both have to end with the same instances forwarded and held.
"""

import argparse
import json
import os
import re
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import cv2
import numpy as np
import psutil
from photographs import Patient, photograph, save
from pydicom.uid import generate_uid
from system.peers import Archive, gateway, storescu, wait_until

from gateway.instance import State
from gateway.ledger import Ledger
from gateway.schema import sqlite_url
from inference import local, triton
from inference.export import export
from inference.tritonserver import Ports, Server

ROOT = Path(__file__).resolve().parents[1]
NANO = ROOT / "bundles" / "nano"
SIDE = 400


def seconds(call, times):
    """Median of several calls, after one that does not count."""
    call()
    taken = []
    for _ in range(times):
        begun = time.perf_counter()
        call()
        taken.append(time.perf_counter() - begun)
    return round(median(taken), 3)


def costs(url, bundle):
    """Seconds of one picture, by engine."""
    engines = {
        "in this process": local.load_models(bundle, threads=1),
        "Triton, gRPC": triton.load_models(bundle, [url], triton.Terms(600, shared_memory=False), threads=1),
        "Triton, shared memory": triton.load_models(bundle, [url], triton.Terms(600), threads=1),
    }
    found = {}
    for name, models in engines.items():
        s, p = models.segmenter.size_px, models.inpainter.size_px
        views, pictures = np.zeros((1, s, s, 3), np.uint8), np.zeros((1, p, p, 3), np.uint8)
        hide = np.ones((1, p, p), np.bool_)
        found[name] = {
            "segment": seconds(lambda m=models, v=views: m.segmenter.segment(v), 9),
            "paint": seconds(lambda m=models, i=pictures, h=hide: m.inpainter.inpaint(i, h, [""], [0]), 5),
            "ask for health": seconds(
                lambda m=models, i=pictures, h=~hide: m.inpainter.inpaint(i, h, [""], [0]), 9
            )
            if "Triton" in name
            else None,
        }
    return found, engines["Triton, shared memory"]


def stub(server, model):
    """Process id of a model's stub."""
    children = psutil.Process(server.process.pid).children()
    alive = [child for child in children if child.status() != psutil.STATUS_ZOMBIE]
    return next(
        child.pid for child in alive if any(f"/{model}/1/model.py" in word for word in child.cmdline())
    )


def recoveries(server, models):
    """Seconds from the death of a model's process to the next answer, on this machine as busy as it is."""
    painter = getattr(
        models.inpainter, "painter", models.inpainter
    )  # the server's alone, not the best of several
    s, p = models.segmenter.size_px, painter.size_px
    calls = {
        "pointrend": lambda: models.segmenter.segment(np.zeros((1, s, s, 3), np.uint8)),
        "inpaint": lambda: painter.inpaint(
            np.zeros((1, p, p, 3), np.uint8), np.ones((1, p, p), np.bool_), [""], [0]
        ),
    }
    found = {}
    for model, call in calls.items():
        call()
        os.kill(stub(server, model), signal.SIGKILL)
        begun = time.perf_counter()
        call()
        taken = round(time.perf_counter() - begun, 1)
        used = sum(psutil.Process(stub(server, model)).cpu_times()[:2])
        found[model] = {"s to the next answer": taken, "s of CPU in its new process": round(used, 1)}
    return found


def portraits(data, folder, number):
    """DICOM files of people, each a study of its own."""
    files = []
    for index, source in enumerate(sorted((data / "data/london/images").iterdir())[:number]):
        small = cv2.resize(cv2.imread(str(source))[..., ::-1], (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        ds = photograph(small, patient=Patient(number=f"P{index}"), study=generate_uid())
        files.append(save(ds, folder / f"{ds.SOPInstanceUID}.dcm"))
    return files


def through(folder, bundle, files, engine, server=None):
    """Every instance's end by its UID, and how often one had to wait for the models."""
    conf = {
        "profile": f'file = "{ROOT / "conf" / "profiles" / "basic.toml"}"',
        "models": f'bundle = "{bundle}"\nengine = "{engine}"\nthreads = 1\nallow_demonstration_models = true',
        "pixels": 'text = "ignore"',
        "pseudonyms": f'key_file = "{folder / "key"}"',
    }
    if server is not None:
        conf["triton"] = f'endpoints = ["127.0.0.1:{server.ports.grpc}"]'
    entry = (sys.executable, "-m", "gateway.cli")
    name = folder / engine
    with (
        Archive() as archive,
        gateway(name, archive.port, entry=entry, conf_text=conf, environ={"PYTHONWARNINGS": ""}) as peer,
    ):
        begun = time.perf_counter()
        assert storescu(peer.port, files).returncode == 0
        if server is not None:
            while peer.counts()["forwarded"] + peer.counts()["held"] < len(files) // 4:
                threading.Event().wait(0.5)
            server.kill()
            threading.Event().wait(10)
            server.start()
        ledger = Ledger(sqlite_url(name / "state" / "ledger.sqlite"))
        waiting = (State.RECEIVED, State.CLEARED)
        wait_until(lambda: not sum(ledger.counts()[state] for state in waiting), "all settled", 3600)
        taken = round(time.perf_counter() - begun, 1)
        ends = {e.instance.sop_instance: f"{e.state} {e.reason or ''}".strip() for e in ledger.entries()}
        ledger.close()
    said = (name / "log.jsonl").read_text(encoding="utf-8")
    return ends, {"seconds": taken, "postponed": said.count('"instance.postponed"')}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("ANOSKIN_DATA", "../shared")))
    parser.add_argument("--bundle", type=Path, default=NANO)
    parser.add_argument("--photographs", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, (Path(name) / "server.log").open("wb") as log:
        folder = Path(name)
        repository = folder / "model_repository"
        export(given.bundle, repository, ROOT / "model_repository")
        for conf in repository.glob("*/config.pbtxt"):
            text = conf.read_text("utf-8").replace("count: 2", "count: 1")
            conf.write_text(re.sub(r'(key: "threads" value { string_value: )"0"', r'\1"1"', text), "utf-8")
        begun = time.perf_counter()
        with Server(repository, Ports.free(), log, {"OMP_NUM_THREADS": "1"}) as server:
            report = {"server ready, s": round(time.perf_counter() - begun, 1)}
            if given.photographs:
                sent = folder / "sent"
                sent.mkdir()
                files = portraits(given.data, sent, given.photographs)
                there, report["engine triton, killed"] = through(
                    folder, given.bundle, files, "triton", server
                )
                report["ends"] = Counter(there.values())
                server.stop()
                here, report["engine local"] = through(folder, given.bundle, files, "local")
                report["the same ends"] = here == there
            else:
                report["one picture, s"], models = costs(f"127.0.0.1:{server.ports.grpc}", given.bundle)
                report["model killed"] = recoveries(server, models)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
