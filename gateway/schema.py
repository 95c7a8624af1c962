"""The ledger's tables, the value one row becomes, and the way to reach the database.

SQLite runs with a write-ahead log.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NewType

import sqlalchemy as sa
from sqlalchemy import event, exc

from gateway.errors import GatewayError, Postponed
from gateway.instance import Instance, OriginalUid, PseudonymousUid, State

InstanceId = NewType("InstanceId", str)
ArrivalId = NewType("ArrivalId", str)

LIVE = (State.RECEIVED, State.CLEARED, State.FORWARDED)
"""States of which one SOP Instance UID has at most one row."""

BUSY_MS = 30_000
_BEGIN_IMMEDIATE = "BEGIN IMMEDIATE"

METADATA = sa.MetaData()
INSTANCES = sa.Table(
    "instances",
    METADATA,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("sop_instance", sa.String(64), nullable=False),
    sa.Column("study", sa.String(64), nullable=False),
    sa.Column("series", sa.String(64), nullable=False),
    sa.Column("sop_class", sa.String(64), nullable=False),
    sa.Column("transfer_syntax", sa.String(64), nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False, index=True),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("peer", sa.String(16), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("reason", sa.String(64)),
    sa.Column("detail", sa.Text),
    sa.Column("arrival", sa.String(32)),
    sa.Column("pseudonym", sa.String(64)),
    sa.Column("clean_sha256", sa.String(64)),
    sa.Column("clean_class", sa.String(64)),
    sa.Column("clean_syntax", sa.String(64)),
    sa.Column("evidence", sa.Text),
    sa.Column("attempts", sa.Integer, nullable=False, default=0),
    sa.Column("received_at", sa.Float, nullable=False),
    sa.Column("changed_at", sa.Float, nullable=False),
    sa.Column("original_gone", sa.Boolean, nullable=False, default=False),
    sa.Column("clean_gone", sa.Boolean, nullable=False, default=False),
    sa.UniqueConstraint("sop_instance", "sha256", name="one_row_per_sending"),
)
sa.Index("instances_waiting", INSTANCES.c.state, INSTANCES.c.arrival, INSTANCES.c.study)
sa.Index("instances_study", INSTANCES.c.study)
_has_arrival = INSTANCES.c.arrival.is_not(None)
sa.Index("instances_arrival", INSTANCES.c.arrival, sqlite_where=_has_arrival, postgresql_where=_has_arrival)
_is_live = INSTANCES.c.state.in_([str(state) for state in LIVE])
sa.Index(
    "one_live_row_per_uid",
    INSTANCES.c.sop_instance,
    unique=True,
    sqlite_where=_is_live,
    postgresql_where=_is_live,
)
HISTORY = sa.Table(
    "history",
    METADATA,
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("instance", sa.String(32), nullable=False, index=True),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("reason", sa.String(64)),
    sa.Column("actor", sa.String(64), nullable=False),
)
ARRIVALS = sa.Table(
    "arrivals",
    METADATA,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("gathered_at", sa.Float, nullable=False),
    sa.Column("started", sa.Boolean, nullable=False, default=False, index=True),
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of the ledger.

    Attributes
    ----------
    id
        Random; the only name of an instance that logs, audit trail and operators see.
    instance
        What was received, under its original identifiers.
    state, reason, detail
        Where it is, and why, where that needs a reason.
    arrival
        The arrival it is treated with; ``None`` while its study is not yet quiet.
    pseudonym, clean_sha256, clean_class, clean_syntax
        The clean object: SOP Instance UID, digest of the file, SOP class, transfer syntax.
    attempts
        Unfinished attempts in the present state.
    changed_at
        Seconds since the epoch of the last change of state.
    original_gone
        Whether the original was removed, its time being over.
    """

    id: InstanceId
    instance: Instance
    state: State
    reason: str | None
    detail: str | None
    arrival: ArrivalId | None
    pseudonym: PseudonymousUid | None
    clean_sha256: str | None
    clean_class: str | None
    clean_syntax: str | None
    evidence: Mapping[str, int | float | bool | None] | None
    attempts: int
    received_at: float
    changed_at: float
    original_gone: bool


EMPTY: Mapping[str, None] = dict.fromkeys(INSTANCES.columns.keys())


def read_entry(facts: Mapping[Any, Any]) -> Entry:
    """One row of ``INSTANCES``, by column name, as a value; a column that is not there is null."""
    facts = {**EMPTY, **facts}
    return Entry(
        id=InstanceId(facts["id"]),
        instance=Instance(
            sop_instance=OriginalUid(facts["sop_instance"]),
            study=OriginalUid(facts["study"]),
            series=OriginalUid(facts["series"]),
            sop_class=facts["sop_class"],
            transfer_syntax=facts["transfer_syntax"],
            sha256=facts["sha256"],
            size_bytes=facts["size_bytes"],
        ),
        state=State(facts["state"]),
        reason=facts["reason"],
        detail=facts["detail"],
        arrival=None if facts["arrival"] is None else ArrivalId(facts["arrival"]),
        pseudonym=None if facts["pseudonym"] is None else PseudonymousUid(facts["pseudonym"]),
        clean_sha256=facts["clean_sha256"],
        clean_class=facts["clean_class"],
        clean_syntax=facts["clean_syntax"],
        evidence=None if facts["evidence"] is None else json.loads(facts["evidence"]),
        attempts=facts["attempts"],
        received_at=facts["received_at"],
        changed_at=facts["changed_at"],
        original_gone=bool(facts["original_gone"]),
    )


def engine(url: str, *, synchronous: Literal["FULL", "NORMAL"] = "FULL") -> sa.Engine:
    """A database engine; nothing is opened yet.

    Connections with the execution option ``reading`` do not wait for writers.

    Parameters
    ----------
    url
        SQLAlchemy URL.
    synchronous
        SQLite only. ``FULL``: what was committed survives a power cut. ``NORMAL``: it survives the end of the
        process, and a power cut together with the next ``FULL`` commit.
    """
    made = sa.create_engine(url)
    if made.dialect.name == "sqlite":
        event.listen(made, "connect", _prepare_sqlite)
        event.listen(
            made, "connect", lambda connection, _: connection.execute(f"PRAGMA synchronous={synchronous}")
        )
        event.listen(made, "begin", _begin_sqlite)
    return made


def sqlite_url(file: Path) -> str:
    """The URL of a SQLite database in ``file``."""
    return f"sqlite:///{file}"


class Present(GatewayError):
    """A row that was to be added, or one that excludes it, is there already."""


class Adder:
    """Adds rows through the driver alone, because what SQLAlchemy does around it costs more than the rows.

    Parameters
    ----------
    engine
        The database.
    columns
        Names of the columns that are given, for each table that gets a row.
    """

    def __init__(self, engine: sa.Engine, columns: Mapping[sa.Table, Sequence[str]]) -> None:
        self._engine = engine
        self._inserts = [
            sa.insert(table).compile(dialect=engine.dialect, column_keys=list(names))
            for table, names in columns.items()
        ]

    def add(self, *rows: Mapping[str, object]) -> None:
        """One row for each table, in one transaction.

        Raises
        ------
        Present
            One of them cannot be there twice; nothing was added.
        Postponed
            The database cannot be used now.
        """
        driver = self._engine.dialect.loaded_dbapi
        with translated():
            connection = self._engine.raw_connection()
        try:
            cursor = connection.cursor()
            if self._engine.dialect.name == "sqlite":
                cursor.execute(_BEGIN_IMMEDIATE)
            for insert, row in zip(self._inserts, rows, strict=True):
                order = insert.positiontup
                values: Any = row if order is None else [row.get(name) for name in order]
                cursor.execute(insert.string, values)
            cursor.close()
            connection.commit()
        except driver.IntegrityError as error:
            raise Present("a row is there already") from error
        except driver.Error as error:
            raise _away(error) from error
        finally:
            connection.close()  # gives it back, and with it up what was not committed


@contextmanager
def translated() -> Iterator[None]:
    """Whatever the database cannot do now is done later.

    Raises
    ------
    Postponed
        In place of any error of the database.
    """
    try:
        yield
    except (exc.DBAPIError, exc.TimeoutError) as error:
        raise _away(error) from error


def _away(error: Exception) -> Postponed:
    return Postponed("ledger", f"the ledger cannot be used ({type(error).__name__})")


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # transactions are begun by `_begin_sqlite`, not by the driver
    cursor = connection.cursor()
    for pragma in (f"busy_timeout={BUSY_MS}", "journal_mode=WAL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: sa.Connection) -> None:
    # Taking the write lock at once means a transaction waits for its turn instead of failing half-way.
    reading = connection.get_execution_options().get("reading", False)
    connection.exec_driver_sql("BEGIN" if reading else _BEGIN_IMMEDIATE)
