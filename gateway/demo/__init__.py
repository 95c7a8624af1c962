"""``gateway demo``: the whole way of photographs on this machine, between a sender and an archive of its own.

Everything between them is the real thing: the ``gateway serve`` command as a process, DICOM over loopback, the
nano model bundle. It ends with a table, ``report.json``, ``sheet.png`` and the archive's files.
"""

import json
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

from gateway.demo import judge, service
from gateway.demo.archive import Archive
from gateway.demo.cases import Case, Rule, cases
from gateway.demo.judge import Finding
from gateway.demo.service import SUCCESS, Service
from gateway.demo.sheet import write_sheet
from gateway.errors import GatewayError, Misconfigured
from gateway.ledger import Ledger
from gateway.pseudonym import Pseudonyms
from gateway.schema import InstanceId, sqlite_url
from gateway.settings import Settings

RULES: tuple[Rule, ...] = ("hold", "keep")
SILENCE_S = 180.0
"""How long the gateway may say nothing before what is not settled counts as failed."""

REPORT_COLUMNS = 120
"""Width of the table where it goes into a file."""

LEGEND = """\
ended: where it is now; held is left to a person, because something about it did not satisfy the gateway's gates
cosine: likeness of the painted face to the original, as the face verifier measures it: 1 is the same picture
identical: whether every pixel outside the painted part arrived as it was sent
lesion kept: share of the painted disease's pixels that arrived as they were sent
"""
"""What the table's columns mean."""

MARK = ".gateway-demo"
"""A file that says that a folder holds results of a demonstration, and may be emptied by the next."""


def run(out: Path) -> int:
    """Run the demonstration; results go to the folder ``out``.

    Returns
    -------
    int
        0 if every case ended as it must, the archive has exactly the objects it must have, each once, and no
        original identifying value occurs in its files; else 1.

    Raises
    ------
    Misconfigured
        The model bundle is missing, or ``out`` holds something that is not from an earlier demonstration.
    GatewayError
        The gateway did not start, or did not accept what was sent.
    """
    console = Console()
    if not console.is_terminal:
        console = Console(width=REPORT_COLUMNS)
    begun = time.monotonic()
    service.installation()
    work = _prepare(out)
    with Archive(out / "archive") as archive, _progress(console) as progress:
        bar = progress.add_task("Drawing the photographs", total=None)
        todo = list(cases())
        progress.update(bar, total=len(todo))
        taken_s: dict[str, float] = {}
        for rule in RULES:
            progress.update(bar, description=f"Starting the gateway, rule {rule}")
            mine = [case for case in todo if case.rule == rule]
            conf_file = work / f"gateway-{rule}.toml"
            conf = service.configure(conf_file, rule, archive.port)
            with Service(conf_file, work / "gateway.log") as gateway, closing(_ledger(conf)) as ledger:
                progress.update(bar, description="Sending")
                _send(gateway, mine)
                progress.update(bar, description=f"Treating, rule {rule}")
                for case, seconds in _settled(gateway, ledger, mine):
                    if seconds is not None:
                        taken_s[case.uid] = seconds
                    progress.advance(bar)
                    if not console.is_terminal:  # where no bar can be drawn
                        console.print(
                            f"{int(progress.tasks[0].completed):>3} of {len(todo)} settled: {case.name}"
                        )
        progress.update(bar, description="Comparing what arrived")
        findings = _judged(todo, conf, archive, taken_s)
    (out / "report.json").write_text(
        json.dumps([finding.report() for finding in findings], indent=1) + "\n", encoding="utf-8"
    )
    write_sheet(findings, out / "sheet.png")
    tokens = judge.foreign_tokens(todo, archive.folder)
    exact = judge.archive_is_exact(todo, Pseudonyms(conf.pseudonyms.secret()), archive)
    good = sum(finding.as_expected for finding in findings)
    console.print(_table(findings))
    console.print(LEGEND)
    console.print(f"{good} of {len(findings)} cases ended as they must.")
    console.print(
        "The archive holds what it must, each object once." if exact
        else "The archive does NOT hold what it must, or some of it twice."
    )  # fmt: skip
    console.print(f"Original identifying values in the archive's files: {tokens or 'none'}.")
    console.print(f"{time.monotonic() - begun:.0f} s in all. Now look at {out / 'sheet.png'}.")
    return 0 if good == len(findings) and exact and tokens == 0 else 1


def _prepare(out: Path) -> Path:
    """An empty folder for the gateway, and none for the archive yet; results of an earlier demonstration go."""
    mine = out / MARK
    if out.exists() and not mine.exists() and (not out.is_dir() or any(out.iterdir())):
        raise Misconfigured(f"{out} holds other things; choose an empty or a new folder.")
    out.mkdir(parents=True, exist_ok=True)
    mine.touch()
    for name in ("work", "archive"):
        shutil.rmtree(out / name, ignore_errors=True)
    for name in ("report.json", "sheet.png"):
        (out / name).unlink(missing_ok=True)
    work = out / "work"
    work.mkdir(mode=0o700)
    return work


def _progress(console: Console) -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description:<28}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    )


def _ledger(conf: Settings) -> Ledger:
    return Ledger(sqlite_url(conf.ledger.folder / "ledger.sqlite"))


def _send(gateway: Service, mine: Sequence[Case]) -> None:
    """Send every case, and the first of them twice: a repeat must be acknowledged and not forwarded again."""
    for case in (*mine, mine[0]):
        status = gateway.send(case.dataset)
        if status != SUCCESS:
            raise GatewayError(f"the gateway answered 0x{status & 0xFFFF:04X} to the case {case.name!r}")


def _settled(gateway: Service, ledger: Ledger, mine: Sequence[Case]) -> Iterator[tuple[Case, float | None]]:
    """Each case as it is settled, with the seconds of its treatment; ends early where the gateway falls silent."""
    pending = {case.uid: case for case in mine}
    treated_s: dict[str, float] = {}
    while pending and (said := gateway.event(SILENCE_S)) is not None:
        instance = str(said.get("instance", ""))
        if said["event"] in {"instance.cleared", "instance.held", "instance.refused"} and said.get("seconds"):
            treated_s[instance] = float(said["seconds"])
        if said["event"] in {"instance.forwarded", "instance.held", "instance.refused"}:
            entry = ledger.entry(InstanceId(instance))
            case = pending.pop(str(entry.instance.sop_instance), None)
            if case is not None:
                yield case, treated_s.get(instance)


def _judged(
    todo: Sequence[Case], conf: Settings, archive: Archive, taken_s: dict[str, float]
) -> list[Finding]:
    """What became of each case; the masks are drawn by the models of the bundle the gateway used."""
    from inference.bundle import BundleError
    from inference.local import load_models

    try:
        models = load_models(conf.models.bundle, threads=conf.models.threads)
    except BundleError as error:
        raise Misconfigured(str(error)) from error
    sight = judge.Sight(models, conf.pixels)
    pseudonyms = Pseudonyms(conf.pseudonyms.secret())
    with closing(_ledger(conf)) as ledger:
        known = {str(entry.instance.sop_instance): entry for entry in ledger.entries()}
    return [
        judge.judge(
            case, known.get(case.uid), taken_s.get(case.uid), archive.file(pseudonyms.uid(case.uid)), sight
        )
        for case in todo
    ]


def _table(findings: Sequence[Finding]) -> Table:
    table = Table("", "case", "ended", "cosine", "identical", "lesion kept", "s", box=SIMPLE_HEAD)
    table.columns[2].no_wrap = True
    for one in findings:
        ended = "not settled" if one.state is None else str(one.state)
        ended += "" if one.reason is None else f": {one.reason}"
        table.add_row(
            "✓" if one.as_expected else "✗",
            one.name,
            ended if one.as_expected else f"{ended} (must be {one.expected})",
            "" if one.similarity is None else f"{one.similarity:.2f}",
            {True: "yes", False: "NO", None: ""}[one.kept_pixels_identical],
            "" if one.lesion_kept is None else f"{one.lesion_kept:.0%}",
            "" if one.seconds is None else f"{one.seconds:.1f}",
            style="" if one.as_expected else "red",
        )
    return table
