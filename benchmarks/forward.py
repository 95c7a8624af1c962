"""How fast one association carries clean objects to a real Orthanc.

Run ``python benchmarks/forward.py [objects]``. Sends 130 kB photographs twice over: as the gateway does, and
without its wish that small packets and acknowledgements leave at once.
"""

import hashlib
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import numpy as np
from photographs import photograph, save
from pydicom.uid import JPEGBaseline8Bit
from system.peers import orthanc

from gateway import forward
from gateway.forward import Answer, Report, Shipment
from gateway.schema import InstanceId
from gateway.settings import Archive


def main(objects: int = 100) -> None:
    """Print objects per second of both."""
    rgb = np.random.default_rng(0).integers(0, 255, (200, 300, 3), np.uint8)
    hurry: Callable[[Any], None] = forward._hurry
    rates = {}
    with tempfile.TemporaryDirectory() as name, orthanc(Path(name) / "orthanc") as archive:
        for label, handler in (("gateway", hurry), ("patient", lambda _event: None)):
            forward._hurry = handler  # type: ignore[assignment]
            shipments = []
            for number in range(objects):
                ds = photograph(rgb, syntax=JPEGBaseline8Bit)
                file = save(ds, Path(name) / f"{ds.SOPInstanceUID}.dcm")
                kind = (str(ds.SOPClassUID), str(JPEGBaseline8Bit))
                sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
                shipments.append(Shipment(InstanceId(str(number)), file, sha256, *kind))
            reports: list[Report] = []
            begun = time.perf_counter()
            forward.send(shipments, Archive(port=archive.port), reports.append)
            rates[label] = round(objects / (time.perf_counter() - begun), 1)
            assert [report.answer for report in reports] == [Answer.STORED] * objects
    print(json.dumps({"objects_per_s": rates}))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
