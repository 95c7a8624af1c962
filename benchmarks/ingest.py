"""What durable ingest costs: the gateway's listener against pynetdicom writing and syncing a file.

Run ``python benchmarks/ingest.py [rounds] [objects] [senders]``. Both listeners run as processes of their own and
receive the same 130 kB photographs from DCMTK's ``storescu``; rounds alternate, so that a busy machine hurts both.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from multiprocessing import Process, Queue
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import numpy as np
from photographs import photograph, save
from pydicom.uid import JPEGBaseline8Bit, VLPhotographicImageStorage
from pynetdicom import AE, _config, evt
from system.peers import find_program


def plain(folder: Path, ports: "Queue[int]") -> None:
    """pynetdicom alone: the object grows in a file, which is synced and renamed."""

    def store(event: Any) -> int:
        path = Path(event.dataset_path)
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
        path.replace(folder / f"{event.request.AffectedSOPInstanceUID}.dcm")
        return 0x0000

    _config.STORE_RECV_CHUNKED_DATASET = True
    _config.LOG_HANDLER_LEVEL = "none"
    tempfile.tempdir = str(folder)
    entity = AE("ANOSKIN")
    entity.maximum_pdu_size = 131072
    entity.add_supported_context(VLPhotographicImageStorage, [JPEGBaseline8Bit])
    handlers: list[Any] = [(evt.EVT_C_STORE, store)]
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    assert server is not None
    ports.put(server.server_address[1])
    server.serve_forever()


def ours(folder: Path, ports: "Queue[int]") -> None:
    """The gateway's listener: limits, spool, ledger."""
    import threading

    from gateway import log, receive
    from gateway.audit import Trail
    from gateway.ledger import Ledger
    from gateway.schema import sqlite_url
    from gateway.settings import Listener
    from gateway.spool import Spool

    log.configure("json", "info", stream=(folder / "log").open("w"))
    ledger = Ledger(sqlite_url(folder / "ledger.sqlite"))
    intake = receive.Intake(Spool(folder / "spool", 1 << 20), ledger, 1 << 31)
    desk = receive.Desk(Listener(port=0, accept_any_peer=True), (), intake, Trail(folder / "audit.jsonl"))
    ports.put(receive.listen(desk).port)
    threading.Event().wait()


def timed(port: int, groups: list[list[Path]]) -> float:
    """Seconds until every sender has sent its group."""
    begun = time.perf_counter()
    senders = [
        subprocess.Popen(
            [find_program("storescu"), "-xy", "-aec", "ANOSKIN", "127.0.0.1", str(port), *map(str, group)]
        )
        for group in groups
    ]
    assert all(sender.wait() == 0 for sender in senders)
    return time.perf_counter() - begun


def main(rounds: int = 5, objects: int = 60, senders: int = 1) -> None:
    """Print objects per second of both, and their ratio."""
    seconds: dict[str, list[float]] = {"plain": [], "ours": []}
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        ports: Queue[int] = Queue()
        addresses = {}
        processes = []
        for label, target in (("plain", plain), ("ours", ours)):
            (root / label).mkdir()
            processes.append(Process(target=target, args=(root / label, ports), daemon=True))
            processes[-1].start()
            addresses[label] = ports.get(timeout=60)
        rng = np.random.default_rng(0)
        for turn in range(rounds + 1):
            groups = []
            for sender in range(senders):
                rgb = rng.integers(0, 255, (200, 300, 3), np.uint8)
                group = [photograph(rgb, syntax=JPEGBaseline8Bit) for _ in range(objects // senders)]
                groups.append([save(ds, root / f"{turn}-{sender}-{n}.dcm") for n, ds in enumerate(group)])
            size = groups[0][0].stat().st_size
            for label, port in addresses.items():
                took = timed(port, groups)
                if turn:  # the first round warms up
                    seconds[label].append(took)
        for process in processes:
            process.terminate()
    medians = {label: statistics.median(values) for label, values in seconds.items()}
    rates = {label: round(objects / value, 1) for label, value in medians.items()}
    overhead = statistics.median(b / a for a, b in zip(seconds["plain"], seconds["ours"], strict=True)) - 1
    report = {"bytes": size, "senders": senders, "objects_per_s": rates, "overhead": round(overhead, 3)}
    print(json.dumps(report))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
