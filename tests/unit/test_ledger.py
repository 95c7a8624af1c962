"""The ledger: whatever happens in whatever order, every instance is in exactly one state and none goes twice."""

import itertools
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from gateway.errors import Postponed
from gateway.instance import Cleared, Evidence, Instance, OriginalUid, PseudonymousUid, State
from gateway.ledger import LEGAL, IllegalTransition, Ledger
from gateway.schema import LIVE, Entry, InstanceId, sqlite_url

UIDS = ("1.2.1", "1.2.2")
DIGESTS = ("a" * 64, "b" * 64, "c" * 64)


def received(uid: str = UIDS[0], sha256: str = DIGESTS[0], study: str = "1.2.9") -> Instance:
    return Instance(
        OriginalUid(uid),
        OriginalUid(study),
        OriginalUid("1.2.8"),
        "1.2.3",
        "1.2.840.10008.1.2.1",
        sha256,
        100,
    )


def cleared(uid: str = "2.25.1") -> Cleared:
    evidence = Evidence(frames=1, similarity=0.125, outside_identical=True)
    return Cleared(b"file", PseudonymousUid(uid), "1.2.3", "1.2.840.10008.1.2.1", evidence)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    made = Ledger(sqlite_url(tmp_path / "ledger.sqlite"))
    yield made
    made.close()


class LedgerMachine(RuleBasedStateMachine):
    """Every operation at any time; a model that knows only which state each row was last moved to."""

    rows = Bundle("rows")

    @initialize()
    def open(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.ledger = Ledger(sqlite_url(Path(self.folder.name) / "ledger.sqlite"))
        self.model: dict[InstanceId, State] = {}
        self.identity: dict[tuple[str, str], InstanceId] = {}

    def teardown(self) -> None:
        if hasattr(self, "ledger"):
            self.ledger.close()
            self.folder.cleanup()

    @rule(target=rows, uid=st.sampled_from(UIDS), sha256=st.sampled_from(DIGESTS))
    def receive(self, uid: str, sha256: str) -> InstanceId:
        live = any(self.model[row] in LIVE for (known, _), row in self.identity.items() if known == uid)
        entry, is_new = self.ledger.record(received(uid, sha256), "PACS")
        if (uid, sha256) in self.identity:
            assert not is_new
            assert entry.id == self.identity[uid, sha256]
            assert entry.state == self.model[entry.id]
        else:
            assert is_new
            assert (entry.state, entry.reason) == (
                (State.HELD, "conflict") if live else (State.RECEIVED, None)
            )
            self.model[entry.id], self.identity[uid, sha256] = entry.state, entry.id
        return entry.id

    @rule(row=rows, was=st.sampled_from(State), now_is=st.sampled_from(State))
    def move(self, row: InstanceId, was: State, now_is: State) -> None:
        legal = now_is in LEGAL[was] and self.model[row] is was
        if now_is is State.RECEIVED and was is State.HELD:
            uid = next(uid for (uid, _), known in self.identity.items() if known == row)
            mine = [known for (other, _), known in self.identity.items() if other == uid and known != row]
            legal = legal and not any(self.model[known] in LIVE for known in mine)
        try:
            self._call(row, was, now_is)
        except IllegalTransition:
            assert not legal
        else:
            assert legal
            self.model[row] = now_is

    def _call(self, row: InstanceId, was: State, now_is: State) -> None:
        if now_is is State.CLEARED:
            if was is not State.RECEIVED:
                raise IllegalTransition
            self.ledger.clear(row, cleared(), "d" * 64)
        elif now_is is State.HELD:
            self.ledger.hold(row, was, "similarity", "a sentence")
        elif now_is is State.REFUSED:
            if was is not State.RECEIVED:
                raise IllegalTransition
            self.ledger.refuse(row, "sop-class", "a sentence")
        elif now_is is State.FORWARDED:
            if was is not State.CLEARED:
                raise IllegalTransition
            self.ledger.forward(row)
        else:
            self.ledger.renew(row, was, "operator:ada")

    @rule(row=rows)
    def attempt(self, row: InstanceId) -> None:
        before = self.ledger.entry(row).attempts
        assert self.ledger.begin(row) == before + 1
        self.ledger.take_back(row)
        assert self.ledger.entry(row).attempts == before

    @rule()
    def gather(self) -> None:
        for arrival in self.ledger.gather(0):
            self.ledger.started(arrival)
        assert self.ledger.gather(0) == []

    @rule()
    def reopen(self) -> None:
        url = str(self.ledger._engine.url)
        self.ledger.close()
        self.ledger = Ledger(url)

    @invariant()
    def every_row_is_where_it_was_moved(self) -> None:
        if not hasattr(self, "ledger"):
            return
        entries = {entry.id: entry for entry in self.ledger.entries()}
        assert {row: entry.state for row, entry in entries.items()} == self.model
        assert sum(self.ledger.counts().values()) == len(self.model)
        for row, entry in entries.items():
            states = [state for state, _, _ in self.ledger.history(row)]
            assert states[-1] is entry.state
            assert all(after in LEGAL[before] for before, after in itertools.pairwise(states))
            assert (entry.reason is None) == (entry.state not in (State.HELD, State.REFUSED))

    @invariant()
    def a_uid_is_live_once(self) -> None:
        if not hasattr(self, "ledger"):
            return
        live = [entry.instance.sop_instance for entry in self.ledger.entries() if entry.state in LIVE]
        assert len(live) == len(set(live))


LedgerMachine.TestCase.settings = settings(max_examples=15, stateful_step_count=20, deadline=None)
TestLedgerUnderEveryOrder = LedgerMachine.TestCase


def test_a_cleared_instance_keeps_its_evidence_and_what_to_send(ledger: Ledger) -> None:
    entry, _ = ledger.record(received(), "PACS")
    ledger.clear(entry.id, cleared(), "d" * 64)
    found = ledger.entry(entry.id)
    assert (found.state, found.pseudonym, found.clean_sha256) == (State.CLEARED, "2.25.1", "d" * 64)
    assert found.evidence is not None
    assert found.evidence["similarity"] == 0.125
    assert found.evidence["outside_identical"] is True
    assert found.evidence["faces"] is None


def test_a_study_becomes_one_arrival_only_when_quiet(ledger: Ledger) -> None:
    first, _ = ledger.record(received("1.2.1", study="1.5"), "PACS")
    second, _ = ledger.record(received("1.2.2", study="1.5"), "PACS")
    other, _ = ledger.record(received("1.2.3", study="1.6"), "PACS")
    assert ledger.gather(3600) == []
    arrivals = ledger.gather(0)
    assert len(arrivals) == 2
    assert ledger.entry(first.id).arrival == ledger.entry(second.id).arrival != ledger.entry(other.id).arrival


def test_an_arrival_is_offered_until_its_workflow_is_durable(ledger: Ledger) -> None:
    ledger.record(received(), "PACS")
    (arrival,) = ledger.gather(0)
    assert ledger.gather(0) == [arrival]
    ledger.started(arrival)
    assert ledger.gather(0) == []


def test_a_late_instance_of_a_treated_study_makes_a_new_arrival(ledger: Ledger) -> None:
    entry, _ = ledger.record(received("1.2.1"), "PACS")
    (arrival,) = ledger.gather(0)
    ledger.started(arrival)
    late, _ = ledger.record(received("1.2.2"), "PACS")
    (second,) = ledger.gather(0)
    assert second != arrival
    assert [found.id for found in ledger.entries(arrival=second)] == [late.id]
    assert [found.id for found in ledger.entries(arrival=arrival)] == [entry.id]


def test_only_what_the_archive_has_can_expire(ledger: Ledger) -> None:
    rows = [ledger.record(received(f"1.2.{number}"), "PACS")[0] for number in range(4)]
    ledger.hold(rows[0].id, State.RECEIVED, "similarity", "a sentence")
    ledger.refuse(rows[1].id, "sop-class", "a sentence")
    ledger.clear(rows[2].id, cleared("2.25.2"), "d" * 64)
    ledger.clear(rows[3].id, cleared("2.25.3"), "e" * 64)
    ledger.forward(rows[3].id)
    later = rows[3].changed_at + 1e6
    assert ledger.expired("original", later) == [(rows[3].id, DIGESTS[0])]
    assert ledger.expired("clean", later) == [(rows[3].id, "e" * 64)]
    assert ledger.expired("original", rows[3].received_at - 1) == []
    ledger.removed("original", [rows[3].id])
    assert ledger.expired("original", later) == []
    assert ledger.expired("clean", later) != []


def test_many_senders_at_once_make_one_row(ledger: Ledger) -> None:
    results: list[tuple[Entry, bool]] = []
    senders = [
        threading.Thread(target=lambda: results.append(ledger.record(received(), "PACS"))) for _ in range(8)
    ]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    assert len({entry.id for entry, _ in results}) == 1
    assert sum(is_new for _, is_new in results) == 1


def test_commits_are_synchronous_but_for_rows_that_can_be_made_again(ledger: Ledger) -> None:
    for engine, synchronous in ((ledger._engine, 2), (ledger._reader, 2), (ledger._intake, 1)):
        with engine.connect() as db:
            assert db.execute(sa.text("PRAGMA synchronous")).scalar() == synchronous
            assert db.execute(sa.text("PRAGMA journal_mode")).scalar() == "wal"


def test_a_clock_that_was_set_back_keeps_no_study_waiting(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 7200.0)
    ledger.record(received("1.2.1", study="1.5"), "PACS")
    monkeypatch.setattr(time, "time", lambda: now + 20.0)
    ledger.record(received("1.2.2", study="1.6"), "PACS")
    monkeypatch.setattr(time, "time", lambda: now)
    (arrival,) = ledger.gather(30.0)
    assert [entry.instance.study for entry in ledger.entries(arrival=arrival)] == ["1.5"]


def test_digests_without_a_row_are_found(ledger: Ledger) -> None:
    ledger.record(received(), "PACS")
    assert ledger.unknown(DIGESTS) == set(DIGESTS[1:])


def test_a_database_that_is_away_postpones(tmp_path: Path) -> None:
    with pytest.raises(Postponed) as caught:
        Ledger(sqlite_url(tmp_path / "missing" / "ledger.sqlite"))
    assert caught.value.reason == "ledger"
