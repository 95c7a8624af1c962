"""The work of the workflows, each stage by itself, with treatments and archives that misbehave."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom.uid import ExplicitVRLittleEndian, VLPhotographicImageStorage
from system.peers import Archive as SystemArchive

from gateway import forward
from gateway.audit import Trail
from gateway.errors import Held, Misconfigured, Outcome, Postponed, Refused
from gateway.forward import Answer, Report, Shipment
from gateway.instance import Cleared, Evidence, Instance, OriginalUid, PseudonymousUid, State
from gateway.ledger import Ledger
from gateway.schema import ArrivalId, InstanceId, sqlite_url
from gateway.settings import Archive
from gateway.spool import Spool
from gateway.stages import UNFINISHED_LIMIT, Stages, Treat

KIND = (str(VLPhotographicImageStorage), str(ExplicitVRLittleEndian))
CLEARED = Cleared(b"clean", PseudonymousUid("2.25.7"), *KIND, Evidence(attempts=1))


def clears(_original: Path, _others: Sequence[Path]) -> Cleared:
    return CLEARED


def raises(error: BaseException) -> Treat:
    def treat(_original: Path, _others: Sequence[Path]) -> Cleared:
        raise error

    return treat


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[[Treat], Stages]]:
    ledger = Ledger(sqlite_url(tmp_path / "ledger.sqlite"))
    spool = Spool(tmp_path / "spool", 0)
    trail = Trail(tmp_path / "audit.jsonl")
    yield lambda treat: Stages(ledger, spool, trail, treat, Archive(max_refusals=2))
    ledger.close()


META = bytes(128) + b"DICM\x02\0\0\0UL\x04\0" + bytes(4)


def digest_of(index: int) -> str:
    return hashlib.sha256(b"original %d" % index).hexdigest()


def arrive(stages: Stages, number: int = 1) -> tuple[list[InstanceId], ArrivalId]:
    for index in range(number):
        digest = digest_of(index)
        file = stages.spool.incoming / f"{index}.dcm"
        file.write_bytes(META + b"original %d" % index)
        stages.spool.keep_original(file, digest)
        uid = OriginalUid(f"1.2.{index}")
        instance = Instance(uid, OriginalUid("1.9"), OriginalUid("1.8"), "1.2.3", "1.2.4", digest, 8)
        stages.ledger.record(instance, "PACS")
    (arrival,) = stages.ledger.gather(0)
    return stages.waiting(arrival), arrival


@pytest.mark.parametrize(
    ("error", "state", "reason"),
    [
        (Held("similarity", "a sentence"), State.HELD, "similarity"),
        (Refused("sop-class", "a sentence"), State.REFUSED, "sop-class"),
        (RuntimeError("Zweifelsfrei^Adelheid"), State.HELD, "defect"),
        (MemoryError(), State.HELD, "defect"),
        (Misconfigured("a sentence"), State.HELD, "defect"),
        (OSError(5, "Input/output error"), State.HELD, "defect"),
        (KeyError("PatientName"), State.HELD, "defect"),
    ],
)
def test_every_error_of_a_treatment_settles_as_something_that_does_not_leave(
    make: Callable[[Treat], Stages], error: Exception, state: State, reason: str
) -> None:
    stages = make(raises(error))
    (instance,), _ = arrive(stages)
    assert stages.treat_one(instance)
    entry = stages.ledger.entry(instance)
    assert (entry.state, entry.reason) == (state, reason)
    assert entry.detail is not None
    assert "Zweifelsfrei" not in entry.detail
    if not isinstance(error, Outcome):
        assert type(error).__name__ in entry.detail


def test_a_treatment_that_returns_something_else_is_a_defect(make: Callable[[Treat], Stages]) -> None:
    stages = make(lambda _original, _others: None)  # type: ignore[arg-type,return-value]
    (instance,), _ = arrive(stages)
    assert stages.treat_one(instance)
    assert stages.ledger.entry(instance).reason == "defect"


def test_a_postponed_treatment_leaves_everything_as_it_was(make: Callable[[Treat], Stages]) -> None:
    stages = make(raises(Postponed("models", "a sentence")))
    (instance,), _ = arrive(stages)
    for _ in range(UNFINISHED_LIMIT + 3):
        assert not stages.treat_one(instance)
    entry = stages.ledger.entry(instance)
    assert (entry.state, entry.attempts) == (State.RECEIVED, 0)


def test_an_object_that_kills_its_worker_is_held_in_the_end(make: Callable[[Treat], Stages]) -> None:
    stages = make(raises(KeyboardInterrupt()))
    (instance,), _ = arrive(stages)
    for _ in range(UNFINISHED_LIMIT):
        with pytest.raises(KeyboardInterrupt):
            stages.treat_one(instance)
        assert stages.ledger.entry(instance).state is State.RECEIVED
    assert stages.treat_one(instance)
    entry = stages.ledger.entry(instance)
    assert (entry.state, entry.reason) == (State.HELD, "defect")


def test_the_clean_file_is_on_disk_before_the_row_says_so(
    make: Callable[[Treat], Stages], monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = make(clears)
    (instance,), _ = arrive(stages)

    def fail(*_: object) -> None:
        raise Postponed("ledger", "a sentence")

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "clear", fail)
        assert not stages.treat_one(instance)
    assert stages.ledger.entry(instance).state is State.RECEIVED
    assert stages.treat_one(instance)
    entry = stages.ledger.entry(instance)
    assert entry.state is State.CLEARED
    assert entry.clean_sha256 is not None
    assert stages.spool.clean(entry.clean_sha256).read_bytes() == b"clean"


def test_a_treatment_sees_the_other_originals_of_its_arrival(make: Callable[[Treat], Stages]) -> None:
    seen: list[tuple[Path, list[Path]]] = []

    def treat(original: Path, others: Sequence[Path]) -> Cleared:
        seen.append((original, list(others)))
        raise Held("similarity", "a sentence")

    stages = make(treat)
    waiting, _ = arrive(stages, 3)
    for instance in waiting:
        stages.treat_one(instance)
    files = {stages.spool.original(digest_of(index)) for index in range(3)}
    assert [{original, *others} for original, others in seen] == [files] * 3
    assert all(original not in others for original, others in seen)


def test_one_that_is_treated_again_alone_is_still_compared_with_its_study(
    make: Callable[[Treat], Stages],
) -> None:
    seen: list[list[Path]] = []

    def treat(_original: Path, others: Sequence[Path]) -> Cleared:
        seen.append(list(others))
        raise Held("similarity", "a sentence")

    stages = make(treat)
    waiting, first = arrive(stages, 2)
    for instance in waiting:
        stages.treat_one(instance)
    stages.ledger.started(first)
    stages.ledger.renew(waiting[0], State.HELD, "operator:ada")
    (again,) = stages.ledger.gather(0)
    assert stages.waiting(again) == [waiting[0]]
    stages.treat_one(waiting[0])
    assert seen[-1] == [stages.spool.original(digest_of(1))]


def test_an_original_that_was_changed_is_held_and_one_that_is_gone_is_waited_for(
    make: Callable[[Treat], Stages],
) -> None:
    stages = make(clears)
    waiting, _ = arrive(stages, 2)
    stages.spool.original(digest_of(0)).write_bytes(META + b"something else")
    stages.spool.remove("original", digest_of(1))
    assert stages.treat_one(waiting[0])
    assert not stages.treat_one(waiting[1])
    entries = [stages.ledger.entry(instance) for instance in waiting]
    assert [entry.reason for entry in entries] == ["damaged", None]
    assert (entries[1].state, entries[1].attempts) == (State.RECEIVED, 0)


def answering(*answers: tuple[Answer, int | None]) -> Callable[..., None]:
    def send(shipments: Sequence[Shipment], _archive: Archive, settle: Callable[[Report], None]) -> None:
        for shipment, (answer, status) in zip(shipments, answers, strict=True):
            settle(Report(shipment.id, answer, status))

    return send


def test_a_settled_instance_is_not_treated_again(make: Callable[[Treat], Stages]) -> None:
    stages = make(clears)
    (instance,), _ = arrive(stages)
    assert stages.treat_one(instance)
    assert make(raises(Held("similarity", "a sentence"))).treat_one(instance)
    assert stages.ledger.entry(instance).state is State.CLEARED


def test_only_what_the_archive_confirmed_is_forwarded(
    make: Callable[[Treat], Stages], monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = make(clears)
    waiting, arrival = arrive(stages, 3)
    for instance in waiting:
        stages.treat_one(instance)
    answers = answering((Answer.STORED, 0), (Answer.LATER, 0xA700), (Answer.REFUSED, 0xC000))
    monkeypatch.setattr(forward, "send", answers)
    assert not stages.forward_all(arrival, 0)
    states = [stages.ledger.entry(instance).state for instance in waiting]
    assert states == [State.FORWARDED, State.CLEARED, State.CLEARED]
    monkeypatch.setattr(forward, "send", answering((Answer.REFUSED, 0xC000), (Answer.STORED, 0xB000)))
    assert stages.forward_all(arrival, 1)
    held = stages.ledger.entry(waiting[2])
    assert (held.state, held.reason) == (State.HELD, "archive-refused")
    assert stages.ledger.counts()[State.FORWARDED] == 2


def test_a_service_that_stops_sends_no_further_object(
    make: Callable[[Treat], Stages], monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = make(clears)
    waiting, arrival = arrive(stages, 3)
    for instance in waiting:
        stages.treat_one(instance)
    stages.stopping.set()
    monkeypatch.setattr(forward, "send", answering(*[(Answer.STORED, 0)] * 3))
    assert not stages.forward_all(arrival, 0)
    assert stages.ledger.counts()[State.FORWARDED] == 1


def test_a_clean_file_that_vanished_is_made_again(make: Callable[[Treat], Stages]) -> None:
    stages = make(clears)
    (instance,), arrival = arrive(stages)
    stages.treat_one(instance)
    digest = stages.ledger.entry(instance).clean_sha256
    assert digest is not None
    stages.spool.remove("clean", digest)
    assert stages.forward_all(arrival, 0)
    entry = stages.ledger.entry(instance)
    assert (entry.state, entry.arrival, entry.clean_sha256) == (State.RECEIVED, None, None)
    assert len(stages.ledger.gather(0)) == 2  # the first arrival was never started here


def test_a_clean_file_that_was_changed_is_not_sent_but_made_again(make: Callable[[Treat], Stages]) -> None:
    stages = make(clears)
    waiting, arrival = arrive(stages, 2)
    for instance in waiting:
        stages.treat_one(instance)
    digest = stages.ledger.entry(waiting[0]).clean_sha256
    assert digest is not None
    stages.spool.clean(digest).write_bytes(b"CLEAN")
    with SystemArchive() as archive:
        sending = replace(stages, archive=Archive(port=archive.port))
        assert sending.forward_all(arrival, 0)
        assert archive.asked.total() == 0
    for instance in waiting:
        entry = stages.ledger.entry(instance)
        assert (entry.state, entry.arrival, entry.clean_sha256) == (State.RECEIVED, None, None)


def test_what_was_settled_elsewhere_keeps_no_other_object_back(
    make: Callable[[Treat], Stages], monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = make(clears)
    waiting, arrival = arrive(stages, 2)
    for instance in waiting:
        stages.treat_one(instance)

    def send(shipments: Sequence[Shipment], _archive: Archive, settle: Callable[[Report], None]) -> None:
        stages.ledger.hold(shipments[0].id, State.CLEARED, "archive-refused", "a sentence")
        for shipment in shipments:
            settle(Report(shipment.id, Answer.STORED, 0))

    monkeypatch.setattr(forward, "send", send)
    assert stages.forward_all(arrival, 0)
    states = [stages.ledger.entry(instance).state for instance in waiting]
    assert states == [State.HELD, State.FORWARDED]


# pynetdicom shuts a socket down before it closes it, which fails where there was no connection.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_archive_that_is_away_leaves_everything_cleared(make: Callable[[Treat], Stages]) -> None:
    stages = make(clears)
    (instance,), arrival = arrive(stages)
    stages.treat_one(instance)
    away = Stages(
        stages.ledger, stages.spool, stages.trail, clears, Archive(host="127.0.0.1", port=1, timeout_s=2.0)
    )
    assert not away.forward_all(arrival, 0)
    assert stages.ledger.entry(instance).state is State.CLEARED


def test_every_settlement_is_in_the_trail(make: Callable[[Treat], Stages], tmp_path: Path) -> None:
    stages = make(clears)
    (instance,), _ = arrive(stages)
    stages.treat_one(instance)
    stages.trail.verify()
    assert f'"instance":"{instance}"' in (tmp_path / "audit.jsonl").read_text(encoding="utf-8")
