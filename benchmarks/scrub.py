"""What taking the identity out of metadata costs: the gateway beside its peers, in one run on the same files.

Run ``python benchmarks/scrub.py [--rounds N] [--objects N] [--flat N]`` with the extra ``bench``. Measured for each
object, from its file to a new one: reading, treating, writing. (The files of the round before are removed while no
clock runs; to write over them would make every tool wait for the disk.) The gateway is measured twice:

* ``scrub``: what the libraries do too, and nothing else: reading, taking the identity out, freeing the coded frames of
  what lies beside the image, marking, writing;
* ``gateway``: what ``--metadata-only`` runs and ``gateway`` users get: the same, and before anything is written the
  finished file read again and searched for the original's identity and for bytes that belong to no element. None of
  the others does that.

Models are not part of it, fsync of nobody. Orthanc gets no files; it answers ``/anonymize`` from its storage over one
connection. ``pydicom`` reads and writes, nothing changed; ``pydicom (memory kept)`` does so with the allocator set as
the gateway sets it (:mod:`gateway.memory`), to show what that alone is worth. Every object is of another patient.

Every tool is one process on one core. Rounds take the tools in turn and ratios are taken within a round, so that a
busy machine hurts all of them alike. ``--flat`` treats so many objects in one process instead, and tells its memory.
"""

import argparse
import contextlib
import http.client
import io
import json
import os
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import numpy as np
from answer_key import who
from photographs import photograph, save
from pydicom.uid import ExplicitVRLittleEndian, JPEGBaseline8Bit
from system.peers import orthanc

KEY = bytes(range(32))
OURS = ("scrub", "gateway")
SIZES = {"jpeg": (JPEGBaseline8Bit, (200, 300)), "native": (ExplicitVRLittleEndian, (1000, 1000))}
"""Noise of these sizes is 130 kB as JPEG, and 3 MB as it is."""
Treat = Callable[[Path, Path], object]


def plain() -> Treat:
    """pydicom: read and written, nothing changed."""
    from pydicom import dcmread

    return lambda source, target: dcmread(source).save_as(target)


def memory_kept() -> Treat:
    """The same, with the allocator set as the gateway's."""
    from gateway.memory import keep_freed

    keep_freed()
    return plain()


def scrubbed() -> Treat:
    """The gateway's treatment of metadata without its gates, as the libraries have none."""
    from gateway import frames, mark, part10, scrub
    from gateway.memory import keep_freed
    from gateway.profiles import Profile
    from gateway.pseudonym import Pseudonyms

    keep_freed()
    profile, pseudonyms = Profile(), Pseudonyms(KEY)

    def treat(source: Path, target: Path) -> None:
        original = part10.read(source)
        clean = scrub.scrub(original, profile, pseudonyms)
        frames.carry(clean)
        mark.mark(clean, profile, pixels_clean=False, features_clean=False, edited=False)
        mark.repeat(clean, original)
        with target.open("wb") as stream:
            stream.writelines(part10.pieces(clean))

    return treat


def ours() -> Treat:
    """The gateway's metadata treatment with its gates."""
    from gateway.deidentify import MetadataOnly
    from gateway.memory import keep_freed
    from gateway.profiles import Profile
    from gateway.pseudonym import Pseudonyms

    keep_freed()
    treat = MetadataOnly(Profile(), Pseudonyms(KEY))
    return lambda source, target: target.write_bytes(treat(source).file)


def dicognito() -> Treat:
    """The library dicognito."""
    from dicognito.anonymizer import Anonymizer
    from pydicom import dcmread

    anonymizer = Anonymizer(seed="benchmark")

    def treat(source: Path, target: Path) -> None:
        ds = dcmread(source)
        anonymizer.anonymize(ds)
        ds.save_as(target)

    return treat


def dicom_anonymizer() -> Treat:
    """The library dicom-anonymizer, with its rules from PS3.15."""
    from dicomanonymizer.simpledicomanonymizer import anonymize_dicom_file

    return lambda source, target: anonymize_dicom_file(str(source), str(target))


def deid() -> Treat:
    """The library deid, with the recipe it brings."""
    from deid.config import DeidRecipe
    from deid.dicom import get_identifiers, replace_identifiers

    recipe = DeidRecipe()

    def treat(source: Path, target: Path) -> None:
        found = get_identifiers([str(source)])
        (ds,) = replace_identifiers([str(source)], ids=found, deid=recipe, save=False)
        ds.save_as(target)

    return treat


TOOLS: dict[str, Callable[[], Treat]] = {
    "pydicom": plain,
    "pydicom (memory kept)": memory_kept,
    "scrub": scrubbed,
    "gateway": ours,
    "dicognito": dicognito,
    "dicom-anonymizer": dicom_anonymizer,
    "deid": deid,
}


def work(name: str, pipe: Connection) -> None:
    """One tool in a process of its own: a folder in, seconds of wall and of processor out."""
    import logging
    import warnings

    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    treat = TOOLS[name]()
    with contextlib.suppress(EOFError), contextlib.redirect_stdout(io.StringIO()):
        while True:
            files, target = pipe.recv()
            begun, spent = time.perf_counter(), time.process_time()
            for file in files:
                treat(file, target / file.name)
            pipe.send((time.perf_counter() - begun, time.process_time() - spent))


class Worker:
    """A tool that waits in its process."""

    def __init__(self, name: str, target: Path) -> None:
        context = get_context("spawn")
        self._pipe, other = context.Pipe()
        self._target = target / name
        self._target.mkdir()
        context.Process(target=work, args=(name, other), daemon=True).start()

    def __call__(self, files: list[Path]) -> tuple[float, float]:
        """Treat these files; seconds of wall and of processor."""
        for old in self._target.iterdir():
            old.unlink()
        self._pipe.send((files, self._target))
        wall, cpu = self._pipe.recv()
        assert len(list(self._target.iterdir())) == len(files)
        return wall, cpu


class Orthanc:
    """Orthanc's REST call ``/instances/{id}/anonymize``."""

    def __init__(self, port: int, pid: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port)
        self._stat = Path(f"/proc/{pid}/stat")
        self._known: dict[Path, str] = {}

    def _call(self, method: str, path: str, body: bytes) -> bytes:
        self._connection.request(method, path, body)
        answer = self._connection.getresponse()
        found = answer.read()
        assert answer.status == 200, (answer.status, found[:200])
        return found

    def _processor_s(self) -> float:
        spent = self._stat.read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(spent[11]) + int(spent[12])) / os.sysconf("SC_CLK_TCK")

    def __call__(self, files: list[Path]) -> tuple[float, float]:
        """Treat these files, known to Orthanc before the clock starts; seconds of wall and of processor."""
        self._connection.close()
        for file in files:
            if file not in self._known:
                self._known[file] = json.loads(self._call("POST", "/instances", file.read_bytes()))["ID"]
        self._connection.close()  # an idle one does not live long; the next request opens another
        begun, spent = time.perf_counter(), self._processor_s()
        for file in files:
            assert self._call("POST", f"/instances/{self._known[file]}/anonymize", b"{}")[128:132] == b"DICM"
        return time.perf_counter() - begun, self._processor_s() - spent


def make(folder: Path, kind: str, objects: int) -> list[Path]:
    """Photographs of noise, each of another patient, with everything that identifies one."""
    syntax, shape = SIZES[kind]
    rng = np.random.default_rng(0)
    folder.mkdir()
    pictures = (rng.integers(0, 255, (*shape, 3), np.uint8) for _ in range(objects))
    return [
        save(photograph(rgb, syntax=syntax, patient=who(n)[1]), folder / f"{n}.dcm")
        for n, rgb in enumerate(pictures)
    ]


def over(ours: list[tuple[float, float]], other: list[tuple[float, float]], clock: int) -> float:
    """How many times as fast ours is, round by round: the median."""
    return round(statistics.median(b[clock] / a[clock] for a, b in zip(ours, other, strict=True)), 2)


def compare(rounds: int, objects: int, chosen: list[str]) -> dict[str, Any]:
    """Objects per second of every tool, and ours over each of the others, by kind of object."""
    report: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        root = Path(name)
        (root / "out").mkdir()
        tools: dict[str, Callable[[list[Path]], tuple[float, float]]] = {
            tool: Worker(tool, root / "out") for tool in TOOLS if tool in chosen
        }
        if "orthanc" in chosen:
            peer = stack.enter_context(orthanc(root / "orthanc"))
            assert peer.process is not None
            tools["orthanc"] = Orthanc(peer.http_port, peer.process.pid)
        for kind in SIZES:
            files = make(root / kind, kind, objects)
            size = files[0].stat().st_size
            seconds: dict[str, list[tuple[float, float]]] = {tool: [] for tool in tools}
            for turn in range(rounds + 1):
                for tool, treat in tools.items():
                    took = treat(files)
                    if turn:  # the first round warms up
                        seconds[tool].append(took)
            report[kind] = {"bytes": size}
            for number, clock in enumerate(("wall", "processor")):
                rates = {
                    tool: round(objects / statistics.median(t[number] for t in took), 1)
                    for tool, took in seconds.items()
                }
                report[kind][clock] = {"objects_per_s": rates}
                for mine in (tool for tool in OURS if tool in tools):
                    report[kind][clock][f"{mine}_over"] = {
                        tool: over(seconds[mine], took, number)
                        for tool, took in seconds.items()
                        if tool not in OURS
                    }
            shutil.rmtree(root / kind)
    return report


def flat(objects: int) -> dict[str, Any]:
    """Resident memory after a tenth of the objects and after all of them, in MiB."""
    treat = ours()
    with tempfile.TemporaryDirectory() as name:
        files = make(Path(name) / "in", "jpeg", 100)
        target = Path(name) / "out.dcm"
        rss: list[float] = []
        for number in range(1, objects + 1):
            treat(files[number % len(files)], target)
            if number % (objects // 10) == 0:
                pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
                rss.append(round(pages * resource.getpagesize() / 2**20, 1))
    return {"objects": objects, "resident_mib": rss}


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--objects", type=int, default=40)
    parser.add_argument("--flat", type=int, default=0, metavar="N")
    parser.add_argument("--tools", nargs="+", default=[*TOOLS, "orthanc"], choices=[*TOOLS, "orthanc"])
    options = parser.parse_args()
    found = flat(options.flat) if options.flat else compare(options.rounds, options.objects, options.tools)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
