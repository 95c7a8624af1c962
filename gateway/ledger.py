"""One row per instance: where it is, what was measured, and how it came there.

Identity is the original SOP Instance UID together with the digest of its bytes. At most one row of a UID is
*live* (waiting, cleared or forwarded): nothing is forwarded twice. A change of state is one of `LEGAL`,
happens in one transaction together with its line of history, and is refused otherwise.
"""

import json
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc

from gateway import schema
from gateway.errors import GatewayError
from gateway.instance import Cleared, Instance, OriginalUid, State
from gateway.schema import (
    ARRIVALS,
    HISTORY,
    INSTANCES,
    LIVE,
    ArrivalId,
    Entry,
    InstanceId,
    Present,
    read_entry,
    translated,
)

LEGAL: Mapping[State, frozenset[State]] = {
    State.RECEIVED: frozenset({State.CLEARED, State.HELD, State.REFUSED}),
    State.CLEARED: frozenset({State.FORWARDED, State.HELD, State.RECEIVED}),
    State.HELD: frozenset({State.RECEIVED}),
    State.REFUSED: frozenset(),
    State.FORWARDED: frozenset(),
}


_NOTED = ("instance", "at", "state", "reason", "actor")


class IllegalTransition(GatewayError):
    """A change of state that the ledger does not allow, or no longer: someone else was first."""


class Ledger:
    """The gateway's memory.

    Parameters
    ----------
    url
        SQLAlchemy URL; tables are created where they are missing.

    Raises
    ------
    Postponed
        The database cannot be reached now. Every method may raise this.
    """

    def __init__(self, url: str) -> None:
        self._engine = schema.engine(url)
        self._reader = self._engine.execution_options(reading=True)
        self._intake = schema.engine(url, synchronous="NORMAL")
        self._adder = schema.Adder(self._intake, {INSTANCES: INSTANCES.columns.keys(), HISTORY: _NOTED})
        with translated():
            schema.METADATA.create_all(self._engine)

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()
        self._intake.dispose()

    def record(self, instance: Instance, peer: str) -> tuple[Entry, bool]:
        """Note a received instance.

        The row survives the end of this process when this returns, and a power cut soon after: its bytes are
        durable already, and `receive.Intake.recover` makes the row again from them.

        Parameters
        ----------
        instance
            What was received; its bytes are already durable.
        peer
            AE title of the sender.

        Returns
        -------
        Entry, bool
            Its row, and whether it is new. The same bytes again are not. Other bytes under the UID of a live
            instance are held with the reason ``conflict``.
        """
        now = time.time()
        row: dict[str, Any] = {
            **asdict(instance),
            "attempts": 0,
            "original_gone": False,
            "clean_gone": False,
            "id": uuid.uuid4().hex,
            "peer": peer,
            "state": str(State.RECEIVED),
            "received_at": now,
            "changed_at": now,
        }
        try:
            self._adder.add(row, _noted(row["id"], State.RECEIVED, None, f"peer:{peer}"))
        except Present:
            return self._record_known(row)
        return read_entry(row), True

    def _record_known(self, row: dict[str, Any]) -> tuple[Entry, bool]:
        """As `record`, where the same UID has a row already."""
        mine = INSTANCES.c.sop_instance == row["sop_instance"]
        with self._writing(self._intake) as db:
            known = [read_entry(found._mapping) for found in db.execute(sa.select(INSTANCES).where(mine))]
            for entry in known:
                if entry.instance.sha256 == row["sha256"]:
                    return entry, False
            if any(entry.state in LIVE for entry in known):
                detail = "another object with the same UID was received before"
                row |= {"state": State.HELD, "reason": "conflict", "detail": detail}
            db.execute(INSTANCES.insert(), row)
            _note(db, row["id"], row["state"], row.get("reason"), f"peer:{row['peer']}")
        return read_entry(row), True

    def unknown(self, digests: Sequence[str]) -> set[str]:
        """Which of these digests of received bytes no row has."""
        query = sa.select(INSTANCES.c.sha256).where(INSTANCES.c.sha256.in_(digests))
        with self._reading() as db:
            return set(digests) - set(db.scalars(query))

    def retired(self, digests: Sequence[str]) -> set[str]:
        """Which of these digests belong to originals whose time was over and whose files were removed."""
        mine = sa.and_(INSTANCES.c.sha256.in_(digests), INSTANCES.c.original_gone)
        with self._reading() as db:
            return set(db.scalars(sa.select(INSTANCES.c.sha256).where(mine)))

    def entry(self, instance: InstanceId) -> Entry:
        """The row of one instance.

        Raises
        ------
        KeyError
            There is none.
        """
        with self._reading() as db:
            row = db.execute(sa.select(INSTANCES).where(INSTANCES.c.id == instance)).one_or_none()
        if row is None:
            raise KeyError(instance)
        return read_entry(row._mapping)

    def entries(
        self,
        *,
        state: State | None = None,
        arrival: ArrivalId | None = None,
        reason: str | None = None,
        study: OriginalUid | None = None,
    ) -> list[Entry]:
        """Rows that match all that is given, oldest first."""
        query = sa.select(INSTANCES).order_by(INSTANCES.c.received_at, INSTANCES.c.id)
        for column, wanted in (
            (INSTANCES.c.state, state),
            (INSTANCES.c.arrival, arrival),
            (INSTANCES.c.reason, reason),
            (INSTANCES.c.study, study),
        ):
            if wanted is not None:
                query = query.where(column == wanted)
        with self._reading() as db:
            return [read_entry(row._mapping) for row in db.execute(query)]

    def unsettled(self) -> list[ArrivalId]:
        """Started arrivals with instances that wait to be treated or sent."""
        busy = INSTANCES.c.state.in_([str(State.RECEIVED), str(State.CLEARED)])
        query = sa.select(INSTANCES.c.arrival).where(busy, INSTANCES.c.arrival.is_not(None)).distinct()
        with self._reading() as db:
            return [ArrivalId(found) for found in db.scalars(query)]

    def counts(self) -> dict[State, int]:
        """How many instances are in each state."""
        query = sa.select(INSTANCES.c.state, sa.func.count()).group_by(INSTANCES.c.state)
        with self._reading() as db:
            found = {State(state): int(number) for state, number in db.execute(query)}
        return {state: found.get(state, 0) for state in State}

    def history(self, instance: InstanceId) -> list[tuple[State, str | None, str]]:
        """Every state one instance was in, with reason and actor, oldest first."""
        query = sa.select(HISTORY).where(HISTORY.c.instance == instance).order_by(HISTORY.c.seq)
        with self._reading() as db:
            return [(State(row.state), row.reason, row.actor) for row in db.execute(query)]

    def gather(self, quiet_s: float) -> list[ArrivalId]:
        """Make an arrival of every study without a new instance for ``quiet_s`` seconds.

        A study whose newest instance lies further ahead than that came before the clock was set back, and is quiet.

        Returns
        -------
        list of ArrivalId
            Every arrival whose workflow has not been `started`, from earlier calls too.
        """
        now = time.time()
        waiting = sa.and_(INSTANCES.c.state == State.RECEIVED, INSTANCES.c.arrival.is_(None))
        newest = sa.func.max(INSTANCES.c.changed_at)
        quiet = (
            sa.select(INSTANCES.c.study)
            .where(waiting)
            .group_by(INSTANCES.c.study)
            .having(sa.or_(newest <= now - quiet_s, newest > now + quiet_s))
        )
        unstarted = sa.select(ARRIVALS.c.id).where(~ARRIVALS.c.started).order_by(ARRIVALS.c.gathered_at)
        with self._reading() as db:
            studies = db.scalars(quiet).all()
            if not studies:
                return [ArrivalId(found) for found in db.scalars(unstarted)]
        with self._writing() as db:
            for study in db.scalars(quiet).all():
                arrival = uuid.uuid4().hex
                db.execute(ARRIVALS.insert().values(id=arrival, gathered_at=now))
                mine = sa.and_(waiting, INSTANCES.c.study == study)
                db.execute(INSTANCES.update().where(mine).values(arrival=arrival))
            return [ArrivalId(found) for found in db.scalars(unstarted)]

    def started(self, arrival: ArrivalId) -> None:
        """Note that the workflow of an arrival is durable."""
        with self._writing() as db:
            db.execute(ARRIVALS.update().where(ARRIVALS.c.id == arrival).values(started=True))

    def begin(self, instance: InstanceId) -> int:
        """Count an attempt on one instance before it is made; returns the number of unfinished ones.

        An attempt that ends the process is never taken back: the number finds objects that kill their worker.
        """
        with self._writing() as db:
            mine = INSTANCES.c.id == instance
            db.execute(INSTANCES.update().where(mine).values(attempts=INSTANCES.c.attempts + 1))
            return int(db.execute(sa.select(INSTANCES.c.attempts).where(mine)).scalar_one())

    def take_back(self, instance: InstanceId) -> None:
        """Uncount an attempt that ended in good order without a result."""
        with self._writing() as db:
            mine = sa.and_(INSTANCES.c.id == instance, INSTANCES.c.attempts > 0)
            db.execute(INSTANCES.update().where(mine).values(attempts=INSTANCES.c.attempts - 1))

    def clear(self, instance: InstanceId, cleared: Cleared, clean_sha256: str) -> None:
        """Settle a treated instance whose clean file is already durable.

        Raises
        ------
        IllegalTransition
            It was not waiting to be treated.
        """
        facts = {
            "pseudonym": cleared.sop_instance,
            "clean_sha256": clean_sha256,
            "clean_class": cleared.sop_class,
            "clean_syntax": cleared.transfer_syntax,
            "evidence": json.dumps(cleared.evidence.as_dict()),
            "clean_gone": False,
        }
        self._move(instance, (State.RECEIVED, State.CLEARED), facts)

    def hold(self, instance: InstanceId, was: State, reason: str, detail: str) -> None:
        """Leave an instance to a person.

        Raises
        ------
        IllegalTransition
            It is no longer where it ``was``, or cannot be held from there.
        """
        self._move(instance, (was, State.HELD), {"reason": reason, "detail": detail})

    def refuse(self, instance: InstanceId, reason: str, detail: str) -> None:
        """Settle an instance that may never pass.

        Raises
        ------
        IllegalTransition
            It was not waiting to be treated.
        """
        self._move(instance, (State.RECEIVED, State.REFUSED), {"reason": reason, "detail": detail})

    def forward(self, instance: InstanceId) -> None:
        """Note that the archive has the clean object.

        Raises
        ------
        IllegalTransition
            It was not waiting to be sent.
        """
        self._move(instance, (State.CLEARED, State.FORWARDED), {})

    def renew(self, instance: InstanceId, was: State, actor: str) -> None:
        """Let an instance be treated again, in a new arrival.

        Raises
        ------
        IllegalTransition
            It is no longer where it ``was``, or another object with its UID is live.
        """
        fresh = (
            "reason",
            "detail",
            "arrival",
            "pseudonym",
            "clean_sha256",
            "clean_class",
            "clean_syntax",
            "evidence",
        )
        self._move(instance, (was, State.RECEIVED), dict.fromkeys(fresh), actor=actor)

    def expired(self, area: str, before: float, limit: int = 500) -> list[tuple[InstanceId, str]]:
        """Forwarded instances settled before a time whose file in an area is still there, with its digest.

        Parameters
        ----------
        area
            ``"original"`` or ``"clean"``.
        before
            Seconds since the epoch.
        limit
            Number returned at most.
        """
        digest, gone = _area(area)
        query = (
            sa.select(INSTANCES.c.id, digest)
            .where(INSTANCES.c.state == State.FORWARDED, ~gone, INSTANCES.c.changed_at <= before)
            .limit(limit)
        )
        with self._reading() as db:
            return [(InstanceId(found), str(sha256)) for found, sha256 in db.execute(query)]

    def removed(self, area: str, instances: Sequence[InstanceId]) -> None:
        """Note that files of an area are gone."""
        _, gone = _area(area)
        with self._writing() as db:
            db.execute(INSTANCES.update().where(INSTANCES.c.id.in_(instances)).values({gone.key: True}))

    def _move(
        self,
        instance: InstanceId,
        way: tuple[State, State],
        facts: Mapping[str, object],
        actor: str = "service",
    ) -> None:
        was, now_is = way
        if now_is not in LEGAL[was]:
            raise IllegalTransition(f"{was} does not become {now_is}")
        now = time.time()
        values = {"reason": None, "detail": None, **facts, "state": now_is, "attempts": 0, "changed_at": now}
        mine = sa.and_(INSTANCES.c.id == instance, INSTANCES.c.state == was)
        with self._writing() as db:
            try:
                changed = db.execute(INSTANCES.update().where(mine).values(values)).rowcount
            except exc.IntegrityError as error:
                raise IllegalTransition("another object with the same UID is already on its way") from error
            if changed != 1:
                raise IllegalTransition(f"the instance is no longer {was}")
            _note(db, instance, now_is, values["reason"], actor)

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        with translated(), self._reader.begin() as db:
            yield db

    @contextmanager
    def _writing(self, engine: sa.Engine | None = None) -> Iterator[sa.Connection]:
        with translated(), (engine or self._engine).begin() as db:
            yield db


def _note(db: sa.Connection, instance: InstanceId, now_is: State, reason: object, actor: str) -> None:
    db.execute(HISTORY.insert(), _noted(instance, now_is, reason, actor))


def _noted(instance: InstanceId, now_is: State, reason: object, actor: str) -> dict[str, object]:
    """One line of history, with the columns `_NOTED`."""
    return dict(zip(_NOTED, (instance, time.time(), str(now_is), reason, actor), strict=True))


def _area(area: str) -> tuple["sa.Column[Any]", "sa.Column[Any]"]:
    """The columns with the digest of an area's file, and with whether it is gone."""
    columns = {
        "original": (INSTANCES.c.sha256, INSTANCES.c.original_gone),
        "clean": (INSTANCES.c.clean_sha256, INSTANCES.c.clean_gone),
    }
    return columns[area]
