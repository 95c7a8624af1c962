"""Files and folders in, clean files and a report out: the same treatment and gates, and no network.

Sources are only read. A clean file is named by its pseudonymous UIDs and appears under its name complete or not at
all. The report says which source became which output: it names the originals and belongs where they are kept.
"""

import json
import logging
import os
import re
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TextIO

from pydicom.datadict import tag_for_keyword
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress

from gateway import part10, workers
from gateway.errors import Held, Misconfigured, Outcome, Refused
from gateway.identities import text_of
from gateway.instance import Cleared

RELEASED, HELD, REFUSED = "released", "held", "refused"
DICOMDIR = "DICOMDIR"
PARTIAL = ".partial"
_NAME = re.compile(r"[^/\\\0]*[^/\\\0.][^/\\\0]*")
_UID = re.compile(r"[0-9]+(\.[0-9]+)*")

Treat = Callable[[Path, Sequence[Path]], Cleared]
Build = Callable[[], Treat]
"""Makes the treatment, in each process anew; it can be pickled."""


@dataclass(frozen=True, slots=True)
class Line:
    """What became of one source.

    Attributes
    ----------
    source
        Its file.
    state
        ``released``, ``held`` or ``refused``.
    reason
        Why it was not released.
    output
        The clean file.
    """

    source: Path
    state: str
    reason: str | None = None
    output: Path | None = None

    def as_json(self) -> str:
        """As one line of the report, in ASCII, because file names may be of any encoding or of none (PEP 383)."""
        output = None if self.output is None else os.fsdecode(self.output)
        fields = {
            "source": os.fsdecode(self.source),
            "state": self.state,
            "reason": self.reason,
            "output": output,
        }
        return json.dumps(fields)


@dataclass(frozen=True, slots=True)
class Task:
    """One object to treat: its file, all files of its study, and where the clean one waits for its name."""

    source: Path
    study: tuple[Path, ...]
    partial: Path


@dataclass(frozen=True, slots=True)
class Clean:
    """A clean file that waits for its name in the folder of results, and the digest of its bytes."""

    name: Path
    sha256: str


def sources(paths: Sequence[Path], out: Path) -> list[Path]:
    """The files to treat, in a fixed order: files as given, those in folders, those a DICOMDIR names.

    Raises
    ------
    Misconfigured
        A path does not exist, nothing was found, or results would lie among their sources.
    """
    found: dict[Path, Path] = {}
    for path in paths:
        if not path.exists():
            raise Misconfigured(f"{path} does not exist.")
        if path.is_dir() and out.resolve().is_relative_to(path.resolve()):
            raise Misconfigured(f"--out {out} lies in {path}, which is only read; choose another folder.")
        for file in _in_folder(path) if path.is_dir() else [path]:
            for one in _named_by(file) if file.name.upper() == DICOMDIR else [file]:
                found.setdefault(one.resolve(), one)
    if not found:
        raise Misconfigured("There are no files to treat.")
    return list(found.values())


def _in_folder(folder: Path) -> Iterator[Path]:
    """Its files; folders that cannot be looked into and links to folders too, so that the report tells of them."""
    closed: list[str] = []
    for where, folders, files in os.walk(folder, onerror=lambda error: closed.append(error.filename)):
        folders.sort()
        links = [name for name in folders if Path(where, name).is_symlink()]
        yield from (Path(where, name) for name in sorted([*files, *links]))
    yield from map(Path, sorted(closed))


def _named_by(directory: Path) -> list[Path]:
    """The files a DICOMDIR names (PS3.3 F.2.2.2), inside its own folder; itself where it or a name cannot be read."""
    try:
        with part10.quiet():
            records = part10.read(directory).DirectoryRecordSequence
            names = [record.ReferencedFileID for record in records if record.get("ReferencedFileID")]
            parts = [[name] if isinstance(name, str) else [str(part) for part in name] for name in names]
    except Exception:  # noqa: BLE001 - whatever is wrong with it, it is a source like any other, and held
        return [directory]
    inside = [name for name in parts if all(_NAME.fullmatch(part) for part in name)]
    told = [] if len(inside) == len(parts) else [directory]
    return [*(_spelled(directory.parent, name) for name in inside), *told]


def _spelled(folder: Path, parts: Sequence[str]) -> Path:
    """The names of a file-set are in upper case; many systems write them in lower case."""
    lower = folder.joinpath(*(part.lower() for part in parts))
    return lower if lower.exists() else folder.joinpath(*parts)


def run(  # noqa: PLR0913 - what the command takes
    found: Sequence[Path], out: Path, build: Build, *, jobs: int, limit_s: float, alone: bool
) -> Iterator[Line]:
    """Treat files; what became of each, in their order.

    Parameters
    ----------
    found
        From :func:`sources`.
    out
        Folder for the clean files.
    build
        Makes the treatment in each process.
    jobs
        Number of processes.
    limit_s
        Seconds one object may take; then it is held.
    alone
        No object needs the others of its study, because no pixel is looked at.

    Raises
    ------
    Misconfigured
        ``build`` says so, or nothing can be written to ``out``.
    """
    holding = out / PARTIAL
    try:
        holding.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise Misconfigured(f"--out {out} cannot be written to ({error.strerror}).") from error
    try:
        studies = {} if alone else _studies(found, jobs, limit_s)
        tasks = [
            Task(file, studies.get(file, ()), holding / f"{number}.dcm") for number, file in enumerate(found)
        ]
        names: dict[Path, str] = {}
        originals = {file.resolve() for file in found}
        results = workers.each(tasks, partial(_treating, build), jobs, limit_s)
        for task, result in zip(tasks, results, strict=True):
            yield _settled(task, result, out, names, originals)
    finally:
        shutil.rmtree(holding, ignore_errors=True)


def _studies(found: Sequence[Path], jobs: int, limit_s: float) -> dict[Path, tuple[Path, ...]]:
    """For each file all files of its study, as far as they can be read."""
    studies: dict[str, list[Path]] = {}
    for file, study in zip(found, workers.each(found, _reading, jobs, limit_s), strict=True):
        if isinstance(study, str) and study:
            studies.setdefault(study, []).append(file)
    return {file: files for files in map(tuple, studies.values()) for file in files}


def _reading() -> Callable[[Path], str]:
    return _study


def _study(file: Path) -> str:
    try:
        return _text(file, "StudyInstanceUID") if file.is_file() else ""
    except (Outcome, OSError):
        return ""


def _text(file: Path, keyword: str) -> str:
    return text_of(part10.peek(file, [keyword]), tag_for_keyword(keyword) or 0)


def _treating(build: Build) -> Callable[[Task], Clean | Line]:
    logging.disable(logging.CRITICAL)  # libraries quote what they read
    return partial(_treat, build())


def _treat(treat: Treat, task: Task) -> Clean | Line:
    """The clean file, written where it waits for its name, or why there is none."""
    if not task.source.is_file():
        return Line(task.source, HELD, "missing")
    try:
        cleared = treat(task.source, [other for other in task.study if other != task.source])
        task.partial.write_bytes(cleared.file)
        folder, name = _text(task.partial, "StudyInstanceUID"), str(cleared.sop_instance)
        if not (_UID.fullmatch(folder) and _UID.fullmatch(name)):
            raise Held("unreadable", "an identifier that names a file is no UID")  # noqa: TRY301
    except Outcome as outcome:
        return Line(task.source, REFUSED if isinstance(outcome, Refused) else HELD, outcome.reason)
    except Exception:  # noqa: BLE001 - whatever it is, nothing is released and a person looks
        return Line(task.source, HELD, "defect")
    return Clean(Path(folder, f"{name}.dcm"), sha256(cleared.file).hexdigest())


def _settled(
    task: Task, result: Clean | Line | workers.Lost, out: Path, names: dict[Path, str], originals: set[Path]
) -> Line:
    """Gives a clean file its name; one of other bytes under that name is held, and one in the place of a source."""
    if isinstance(result, workers.Lost):
        return Line(task.source, HELD, "time" if result.late else "crash")
    if isinstance(result, Line):
        return result
    output = out / result.name
    if names.setdefault(result.name, result.sha256) != result.sha256 or output.resolve() in originals:
        return Line(task.source, HELD, "conflict")
    output.parent.mkdir(exist_ok=True)
    task.partial.replace(output)
    return Line(task.source, RELEASED, None, output)


@contextmanager
def report(file: Path | None, found: Sequence[Path]) -> Iterator[TextIO]:
    """Where the lines go: a file that only its owner reads, because it names originals, or standard output.

    Raises
    ------
    Misconfigured
        The file is a source, or cannot be written.
    """
    if file is None:
        yield sys.stdout
        return
    if file.name.upper() == DICOMDIR or file.resolve() in {one.resolve() for one in found}:
        raise Misconfigured(f"--report {file} is one of the sources; choose another name.")
    try:
        stream = os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8")
    except OSError as error:
        raise Misconfigured(f"--report {file} cannot be written ({error.strerror}).") from error
    with stream:
        yield stream


def tell(lines: Iterator[Line], number: int, report: TextIO, console: Console) -> int:
    """Write a line of the report for each source as it is settled, show how far it is, and sum up.

    Returns
    -------
    int
        Exit status: 0 where all were released, 3 where some were not.
    """
    states: Counter[str] = Counter()
    with Progress(
        *Progress.get_default_columns(), MofNCompleteColumn(), console=console, transient=True
    ) as bar:
        task = bar.add_task("De-identifying", total=number)
        for line in lines:
            report.write(line.as_json() + "\n")
            report.flush()
            states[line.state] += 1
            bar.advance(task)
    console.print(", ".join(f"{states[state]} {state}" for state in (RELEASED, HELD, REFUSED)))
    return 0 if states.keys() == {RELEASED} else 3
