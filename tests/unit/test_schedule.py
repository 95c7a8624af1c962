"""What happens by the clock, without waiting for it."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
import structlog

from gateway import log, schedule
from gateway.audit import Trail
from gateway.errors import Postponed
from gateway.instance import Cleared, Evidence, Instance, OriginalUid, PseudonymousUid, State
from gateway.ledger import Ledger
from gateway.pipeline import Pipeline
from gateway.schedule import Duties
from gateway.schema import ArrivalId, Entry, sqlite_url
from gateway.settings import Retention
from gateway.spool import Spool


class Workflows:
    """In the place of the pipeline: notes what it is asked to do."""

    def __init__(self) -> None:
        self.submitted: list[ArrivalId] = []
        self.away = False

    def submit(self, arrival: ArrivalId) -> None:
        if self.away:
            raise Postponed("workflows", "a sentence")
        self.submitted.append(arrival)

    def reconcile(self) -> int:
        return 0

    def prune(self, older_than_s: float) -> int:
        assert older_than_s >= 86_400
        return 0


@pytest.fixture
def duties(tmp_path: Path) -> Iterator[Duties]:
    ledger = Ledger(sqlite_url(tmp_path / "ledger.sqlite"))
    spool = Spool(tmp_path / "spool", 0)
    trail = Trail(tmp_path / "audit.jsonl")
    yield Duties(
        ledger, spool, trail, cast(Pipeline, Workflows()), 0.0, Retention(originals_days=0.0, clean_days=0.0)
    )
    ledger.close()


def arrived(duties: Duties, number: int, state: State) -> Entry:
    """One instance with its files, moved to a state."""
    digest = f"{number:064x}"
    file = duties.spool.incoming / "x.dcm"
    file.write_bytes(b"original %d" % number)
    duties.spool.keep_original(file, digest)
    uid = OriginalUid(f"1.2.{number}")
    entry, _ = duties.ledger.record(
        Instance(uid, OriginalUid(f"1.9.{number}"), OriginalUid("1.8"), "1.2.3", "1.2.4", digest, 8), "PACS"
    )
    if state in (State.CLEARED, State.FORWARDED):
        clean = duties.spool.keep_clean(b"clean %d" % number)
        cleared = Cleared(b"", PseudonymousUid(f"2.25.{number}"), "1.2.3", "1.2.4", Evidence())
        duties.ledger.clear(entry.id, cleared, clean)
    if state is State.FORWARDED:
        duties.ledger.forward(entry.id)
    if state is State.HELD:
        duties.ledger.hold(entry.id, State.RECEIVED, "similarity", "a sentence")
    if state is State.REFUSED:
        duties.ledger.refuse(entry.id, "sop-class", "a sentence")
    return duties.ledger.entry(entry.id)


def there(duties: Duties, entry: Entry) -> tuple[bool, bool]:
    original = duties.spool.original(entry.instance.sha256).exists()
    return original, entry.clean_sha256 is not None and duties.spool.clean(entry.clean_sha256).exists()


def test_only_files_of_forwarded_instances_are_removed(duties: Duties) -> None:
    entries = {state: arrived(duties, number, state) for number, state in enumerate(State)}
    duties.retire()
    assert there(duties, entries[State.FORWARDED]) == (False, False)
    assert there(duties, entries[State.CLEARED]) == (True, True)
    for state in (State.RECEIVED, State.HELD, State.REFUSED):
        assert there(duties, entries[state])[0], state
    duties.retire()
    assert "retention.removed" in {line["event"] for line in _trail(duties)}
    assert len(_trail(duties)) == 1
    assert duties.ledger.entry(entries[State.FORWARDED].id).original_gone


def test_files_stay_for_their_time(duties: Duties) -> None:
    entry = arrived(duties, 1, State.FORWARDED)
    patient = Duties(
        duties.ledger,
        duties.spool,
        duties.trail,
        duties.pipeline,
        0.0,
        Retention(originals_days=1, clean_days=0),
    )
    patient.retire()
    assert there(duties, entry) == (True, False)


def test_a_quiet_study_is_started_once_and_again_only_if_starting_failed(duties: Duties) -> None:
    arrived(duties, 1, State.RECEIVED)
    arrived(duties, 2, State.RECEIVED)
    workflows = cast(Workflows, duties.pipeline)
    workflows.away = True
    with pytest.raises(Postponed):
        duties.gather()
    workflows.away = False
    duties.gather()
    assert len(set(workflows.submitted)) == 2
    duties.gather()
    assert len(workflows.submitted) == 2


def test_what_lost_its_workflow_does_not_wait_long(duties: Duties) -> None:
    clock = schedule.start(duties)
    try:
        every_s = {job.id: job.trigger.interval.total_seconds() for job in clock.get_jobs()}
    finally:
        clock.shutdown()
    assert every_s == {"gather": 0.2, "retire": 3600.0, "reconcile": 300.0}


def test_a_job_that_fails_is_told_by_its_class_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()

    def job() -> None:
        raise RuntimeError("Zweifelsfrei^Adelheid")

    monkeypatch.setattr(log, "get", lambda: structlog.wrap_logger(structlog.PrintLogger(stream)))
    schedule.guarded(job)()
    assert "RuntimeError" in stream.getvalue()
    assert "Zweifelsfrei" not in stream.getvalue()


def _trail(duties: Duties) -> list[dict[str, object]]:
    import json

    duties.trail.verify()
    text = duties.trail._file.read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]
