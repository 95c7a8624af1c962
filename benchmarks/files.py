"""Real files through ``gateway deidentify``, judged by tools that are not ours.

Run ``python benchmarks/files.py --data FOLDER``; FOLDER has ``syntaxes/``, ``not_photographs/`` and ``malformed/``.

* ``syntaxes`` is treated with a stand-in for the models that hides a rectangle in the middle of every frame, so that
  every file is rewritten, and again as ``--metadata-only``, once by one process and once by two. Every output is
  decoded and compared with its source outside the rectangle, checked with dciodvfy against its source, and read by
  dcmdump, dcmj2pnm and Orthanc. Files that share a SOP Instance UID, or lack one, get one first.
* ``not_photographs`` goes through with the settings as they are shipped.
* ``malformed`` goes through with every kind of object to be treated; time and memory of the worst are told.

``syntaxes`` too is treated whatever kind of object a file is; kinds that are not treated as shipped are told apart,
because their outputs lack what the table of attributes does not name.
"""

import argparse
import json
import re
import resource
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import numpy as np
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEGLSLossless,
    JPEGLSNearLossless,
    generate_uid,
)
from system.peers import find_program, orthanc

from gateway import frames, offline, part10
from gateway.deidentify import Deidentifier, MetadataOnly
from gateway.objects import storage_classes
from gateway.profiles import Profile
from gateway.pseudonym import Pseudonyms
from gateway.redact import Redacted
from gateway.settings import Objects
from gateway.treatment import ByKind

KEY = bytes(range(32))
LIMIT_S = 120.0


class Rectangle:
    """In the place of the models: hides the middle of every frame behind noise."""

    models = SimpleNamespace(name="rectangle", demonstration=True, similarity_limit=0.5)

    def identities(self, _frames: Any) -> list[Any]:
        """Nobody."""
        return []

    def redact(self, pictures: Any, _prompt: str, seed: int, _others: Any = (), **_: Any) -> Redacted:
        """Noise in the rectangle."""
        hide = rectangle(pictures.shape[:3])
        painted = pictures.copy()
        painted[hide] = np.random.default_rng(seed).integers(0, 256, (int(hide.sum()), 3), np.uint8)
        nothing = np.zeros_like(hide)
        return Redacted(
            frames=painted, hide=hide, keep=nothing, written=nothing, faces=1, features=True, uncovered_pixels=0,
            doubtful=0, similarity=0.0, similarity_limit=0.5, attempts=1,
        )  # fmt: skip


def rectangle(shape: tuple[int, ...]) -> Any:
    """True in the middle of frames (F, H, W)."""
    hide = np.zeros(shape, dtype=np.bool_)
    hide[:, shape[1] // 4 : shape[1] // 2 + 1, shape[2] // 4 : shape[2] // 2 + 1] = True
    return hide


def treatment(whole: bool, everything: bool) -> ByKind:
    """What ``gateway deidentify`` runs in its processes."""
    metadata = MetadataOnly(Profile(), Pseudonyms(KEY))
    edits = Deidentifier(
        profile=Profile(), pseudonyms=Pseudonyms(KEY), redactor=Rectangle(), texts=None, prompt="",
        syntaxes=frames.LOSSLESS,
    )  # fmt: skip
    objects = Objects(treat=tuple(storage_classes()), refuse=()) if everything else Objects()
    return ByKind(objects, edits if whole else lambda original, _others: metadata(original), metadata)


def run(
    found: list[Path], out: Path, *, whole: bool, everything: bool, jobs: int
) -> Iterator[dict[str, Any]]:
    """The lines of the report, each with the seconds since the one before."""
    begun = time.monotonic()
    build = partial(treatment, whole, everything)
    for line in offline.run(found, out, build, jobs=jobs, limit_s=LIMIT_S, alone=True):
        now = time.monotonic()
        yield json.loads(line.as_json()) | {"seconds": round(now - begun, 2)}
        begun = now


def prepared(folder: Path, target: Path) -> list[Path]:
    """The files of a folder; copies with UIDs of their own where some are missing or taken."""
    taken, files = set(), []
    target.mkdir()
    for file in sorted(folder.iterdir()):
        ds = part10.read(file)
        missing = [k for k in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID") if not ds.get(k)]
        if not missing and ds.SOPInstanceUID not in taken:
            taken.add(ds.SOPInstanceUID)
            files.append(file)
            continue
        for number, keyword in enumerate(dict.fromkeys([*missing, "SOPInstanceUID"])):
            setattr(ds, keyword, generate_uid(entropy_srcs=[file.name, str(number)]))
        ds.SOPClassUID = ds.get("SOPClassUID") or "1.2.840.10008.5.1.4.1.1.7"
        (target / file.name).write_bytes(part10.write(ds))
        files.append(target / file.name)
    return files


def compared(source: Path, output: Path, *, whole: bool) -> str:
    """Whether an output shows what its source shows, outside what was hidden."""
    before = frames.decode(part10.read(source))
    after = frames.decode(part10.read(output), like=before)
    hide = rectangle(before.rgb.shape[:3]) if whole else np.zeros(before.rgb.shape[:3], dtype=np.bool_)
    same = np.array_equal(before.native[~hide], after.native[~hide])
    return "identical" if same else "DIFFERENT"


def kind_of(file: Path) -> str:
    """The SOP class."""
    return str(part10.peek(file, ["SOPClassUID"]).SOPClassUID)


def complaints(file: Path) -> Counter[str]:
    """Errors that dciodvfy finds, without the values they quote; it reads nothing that is deflated."""
    ds = part10.read(file)
    if ds.file_meta.TransferSyntaxUID == DeflatedExplicitVRLittleEndian:
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        with tempfile.NamedTemporaryFile(suffix=".dcm") as inflated:
            Path(inflated.name).write_bytes(part10.write(ds))
            return complaints(Path(inflated.name))
    result = subprocess.run([find_program("dciodvfy"), "-new", str(file)], capture_output=True, check=False)
    lines = (result.stderr + result.stdout).decode("utf-8", "replace").splitlines()
    errors = (line for line in lines if line.startswith("Error"))
    return Counter(re.sub(r"<[^>]*>|\d+ ?(dec|hex)?|= .*", "_", line) for line in errors)


def readable(program: str, *arguments: str) -> Callable[[Path], bool]:
    """Whether a program of DCMTK reads a file."""
    command = [find_program(program), *arguments]
    return lambda file: (
        subprocess.run(
            [*command, str(file)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False
        ).returncode
        == 0
    )


def shown(folder: Path) -> Callable[[Path], bool]:
    """Whether dcmj2pnm makes a picture; what it has no decoder for, but DCMTK has, is decoded first."""
    plain = folder / "plain.dcm"
    draws, decodes = readable("dcmj2pnm", "-q"), find_program("dcmdjpls")

    def reads(file: Path) -> bool:
        if part10.peek(file, []).file_meta.TransferSyntaxUID not in {JPEGLSLossless, JPEGLSNearLossless}:
            return draws(file)
        done = subprocess.run([decodes, "-q", str(file), str(plain)], capture_output=True, check=False)
        return done.returncode == 0 and draws(plain)

    return reads


def stored(port: int) -> Callable[[Path], bool]:
    """Whether Orthanc takes a file and tells its attributes."""

    def ask(path: str, body: bytes | None = None) -> Any:
        with urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}{path}", body)) as answer:
            return json.loads(answer.read())

    def reads(file: Path) -> bool:
        try:
            return bool(ask(f"/instances/{ask('/instances', file.read_bytes())['ID']}/simplified-tags"))
        except (urllib.error.HTTPError, KeyError):
            return False

    return reads


def syntaxes(folder: Path, root: Path, *, whole: bool) -> dict[str, Any]:
    """Every encoding, through and back."""
    name = "edited" if whole else "metadata"
    files = prepared(folder, root / f"{name}-in")
    lines = list(run(files, root / name, whole=whole, everything=True, jobs=1))
    again = list(run(files, root / f"{name}-again", whole=whole, everything=True, jobs=2))
    pairs = [(Path(line["source"]), Path(line["output"])) for line in lines if line["output"]]
    copies = [Path(line["output"]) for line in again if line["output"]]
    same = [one.read_bytes() == two.read_bytes() for (_, one), two in zip(pairs, copies, strict=True)]
    found: dict[str, Any] = {
        "files": len(files),
        "states": Counter(line["state"] for line in lines),
        "not released": {Path(x["source"]).name: x["reason"] for x in lines if not x["output"]},
        "same bytes by one process and by two": sum(same),
        "pixels": Counter(compared(*pair, whole=whole) for pair in pairs),
    }
    new = {output: complaints(output) - complaints(source) for source, output in pairs}
    shipped = Objects().received()
    for kinds in ("shipped", "other"):
        of_these = [pair for pair in pairs if (kind_of(pair[0]) in shipped) is (kinds == "shipped")]
        found[f"dciodvfy, {kinds} kinds"] = {
            "outputs": len(of_these),
            "errors that are not in the source": {s.name: list(new[o]) for s, o in of_these if new[o]},
        }
    with orthanc(root / f"{name}-orthanc") as peer:
        readers = {
            "dcmdump": readable("dcmdump", "-q"),
            "dcmj2pnm (JPEG-LS by dcmdjpls)": shown(root),
            "Orthanc": stored(peer.http_port),
        }
        for reader, reads in readers.items():
            fails = {source.name: reads(source) for source, output in pairs if not reads(output)}
            found[reader] = {"reads": len(pairs) - len(fails), "fails (reads the source)": fails}
    return found


def ends(folder: Path, root: Path, *, everything: bool) -> dict[str, Any]:
    """How a folder of strange files ends."""
    files = sorted(folder.iterdir())
    lines = list(run(files, root / folder.name, whole=True, everything=everything, jobs=1))
    assert len(lines) == len(files)
    slowest = max(lines[1:], key=lambda line: line["seconds"])
    return {
        "files": len(files),
        "ends": Counter(f"{line['state']} {line['reason'] or ''}".strip() for line in lines),
        "slowest": {Path(slowest["source"]).name: slowest["seconds"]},
        "largest process, MiB": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10,
    }


def main() -> None:
    """Print one JSON object for each part."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--parts", nargs="+", default=["malformed", "not_photographs", "edited", "metadata"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        for part in options.parts:
            if part in {"edited", "metadata"}:
                found = syntaxes(options.data / "syntaxes", Path(name), whole=part == "edited")
            else:
                found = ends(options.data / part, Path(name), everything=part == "malformed")
            print(json.dumps({part: found}, indent=1), flush=True)


if __name__ == "__main__":
    main()
