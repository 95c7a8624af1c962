"""What happens to the instances of an arrival: treated one by one, then sent together.

Both stages read the ledger first and may be repeated at any point: settled is settled. A file is durable
before the row that speaks of it, and the trail is written before the state changes: a crash repeats work and
loses none.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from gateway import forward, header, log
from gateway.audit import Trail
from gateway.errors import Held, Postponed, Refused
from gateway.forward import Answer, Report, Shipment
from gateway.instance import Cleared, State
from gateway.ledger import IllegalTransition, Ledger
from gateway.schema import ArrivalId, Entry, InstanceId
from gateway.settings import Archive
from gateway.spool import Spool

T = TypeVar("T")
Treat = Callable[[Path, Sequence[Path]], Cleared]
"""``treat(original, others)`` clears an object or raises; ``others``: the study's other originals."""

UNFINISHED_LIMIT = 3
"""Attempts on one instance that may end the process before a person must look."""


@dataclass(frozen=True, slots=True)
class Stages:
    """The work of the workflows, without the workflows.

    Attributes
    ----------
    ledger, spool, trail
        Where instances are noted and kept, and actions are noted.
    treat
        Takes the identity out of one object.
    archive
        Where clean objects go, and how patiently.
    stopping
        Set when the service ends: the object in hand is finished, the next one is left for the next start.
    """

    ledger: Ledger
    spool: Spool
    trail: Trail
    treat: Treat
    archive: Archive
    stopping: threading.Event = field(default_factory=threading.Event)

    def waiting(self, arrival: ArrivalId) -> list[InstanceId]:
        """Instances of an arrival that are not settled, oldest first.

        Raises
        ------
        Postponed
            The ledger cannot be read now.
        """
        return [entry.id for entry in self.ledger.entries(state=State.RECEIVED, arrival=arrival)]

    def treat_one(self, instance: InstanceId) -> bool:
        """Settle one instance as cleared, held or refused.

        Returns
        -------
        bool
            False where it has to be tried again later.
        """
        start = time.perf_counter()
        try:
            entry = self.ledger.entry(instance)
            if entry.state is not State.RECEIVED:
                return True
            self._settle(entry, start)
        except Postponed as outcome:
            log.get().warning("instance.postponed", instance=instance, reason=outcome.reason)
            return False
        except IllegalTransition:
            # Someone settled it meanwhile; that stands.
            log.get().warning("instance.postponed", instance=instance, reason="settled-elsewhere")
        return True

    def forward_all(self, arrival: ArrivalId, attempt: int) -> bool:
        """Send what is cleared, starting elsewhere at each attempt so that no object keeps the others back.

        Parameters
        ----------
        arrival
            Whose instances.
        attempt
            Number of earlier attempts.

        Returns
        -------
        bool
            False where something is left to send later.
        """
        try:
            shipments = [self._shipment(entry) for entry in self._cleared(arrival)]
            forward.send(
                rotated(shipments, attempt), self.archive, lambda report: self._answered(report, arrival)
            )
            entries = self.ledger.entries(arrival=arrival)
            states = {entry.state for entry in entries}
            if State.CLEARED in states:
                return False
            if State.RECEIVED not in states:
                log.get().info("arrival.done", arrival=arrival, instances=len(entries))
        except Postponed as outcome:
            log.get().warning(
                "arrival.postponed", arrival=arrival, stage="forward", reason=outcome.reason, attempt=attempt
            )
            return False
        return True

    def _settle(self, entry: Entry, start: float) -> None:
        unfinished = self.ledger.begin(entry.id)
        if unfinished > UNFINISHED_LIMIT:
            detail = f"the process ended {UNFINISHED_LIMIT} times while this object was treated"
            return self._hold(entry, Held("defect", detail), start)
        try:
            cleared = self.treat(self._original(entry), self._others(entry))
            if not isinstance(cleared, Cleared):
                raise TypeError("a treatment gives a cleared object or raises")  # noqa: TRY301
            self._clear(entry, cleared, start)
        except (Held, Refused) as outcome:
            self._hold(entry, outcome, start)
        except Postponed:
            self.ledger.take_back(entry.id)
            raise
        except IllegalTransition:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, nothing leaves and a person looks
            log.get().error(
                "instance.defect", instance=entry.id, arrival=entry.arrival, error=type(error).__name__
            )
            detail = f"the treatment failed unexpectedly ({type(error).__name__})"
            self._hold(entry, Held("defect", detail), start)
        return None

    def _original(self, entry: Entry) -> Path:
        """The file that was received.

        Raises
        ------
        Held
            ``damaged``: what is on disk is something else by now.
        Postponed
            It cannot be read now.
        """
        file = self.spool.original(entry.instance.sha256)
        try:
            is_same = header.digest(file) == entry.instance.sha256
        except OSError as error:
            raise Postponed("spool", f"an original cannot be read ({error.strerror})") from error
        if not is_same:
            raise Held("damaged", "the original on disk is no longer what was received")
        return file

    def _others(self, entry: Entry) -> list[Path]:
        """The other originals of the study, whatever became of them, and in whichever arrival they came."""
        found = self.ledger.entries(study=entry.instance.study)
        paths = [self.spool.original(other.instance.sha256) for other in found if other.id != entry.id]
        return [path for path in paths if path.exists()]

    def _clear(self, entry: Entry, cleared: Cleared, start: float) -> None:
        digest = self.spool.keep_clean(cleared.file)
        facts = {"instance": entry.id, "pseudonym": cleared.sop_instance, "clean": digest}
        self.trail.append("service", "instance.cleared", facts)
        self.ledger.clear(entry.id, cleared, digest)
        log.get().info(
            "instance.cleared",
            instance=entry.id,
            arrival=entry.arrival,
            seconds=_since(start),
            attempts=cleared.evidence.attempts,
        )

    def _hold(self, entry: Entry, outcome: Held | Refused, start: float | None) -> None:
        held = isinstance(outcome, Held)
        event = "instance.held" if held else "instance.refused"
        self.trail.append("service", event, {"instance": entry.id, "reason": outcome.reason})
        if held:
            self.ledger.hold(entry.id, entry.state, outcome.reason, outcome.detail)
        else:
            self.ledger.refuse(entry.id, outcome.reason, outcome.detail)
        seconds = None if start is None else _since(start)
        log.get().warning(
            event, instance=entry.id, arrival=entry.arrival, reason=outcome.reason, seconds=seconds
        )

    def _cleared(self, arrival: ArrivalId) -> list[Entry]:
        """Entries whose clean file is there; one whose file is gone goes back to be treated again."""
        present = []
        for entry in self.ledger.entries(state=State.CLEARED, arrival=arrival):
            if entry.clean_sha256 is not None and self.spool.clean(entry.clean_sha256).exists():
                present.append(entry)
            else:
                self.ledger.renew(entry.id, State.CLEARED, "service")
        return present

    def _shipment(self, entry: Entry) -> Shipment:
        assert entry.clean_sha256 and entry.clean_class and entry.clean_syntax
        file = self.spool.clean(entry.clean_sha256)
        return Shipment(entry.id, file, entry.clean_sha256, entry.clean_class, entry.clean_syntax)

    def _answered(self, report: Report, arrival: ArrivalId) -> None:
        """Note what the archive said about one object.

        Raises
        ------
        Postponed
            The service is stopping, so the next object is not sent now.
        """
        status = "none" if report.status is None else f"0x{report.status:04X}"
        entry = self.ledger.entry(report.id)
        try:
            if report.answer is Answer.STORED:
                self._stored(entry, arrival, status)
            else:
                self._declined(report, entry, status)
        except IllegalTransition:
            # Someone settled it meanwhile; that stands.
            log.get().warning("instance.postponed", instance=entry.id, reason="settled-elsewhere")
        if self.stopping.is_set():
            raise Postponed("stopping", "the service is stopping")

    def _stored(self, entry: Entry, arrival: ArrivalId, status: str) -> None:
        facts = {"instance": entry.id, "pseudonym": entry.pseudonym, "status": status}
        self.trail.append("service", "instance.forwarded", facts)
        self.ledger.forward(entry.id)
        log.get().info(
            "instance.forwarded",
            instance=entry.id,
            arrival=arrival,
            pseudonym=entry.pseudonym,
            status=status,
        )

    def _declined(self, report: Report, entry: Entry, status: str) -> None:
        log.get().warning("forward.failed", arrival=entry.arrival, instance=entry.id, status=status)
        if report.answer is Answer.LATER:
            return
        if report.answer is Answer.CHANGED:
            self.ledger.renew(entry.id, State.CLEARED, "service")
            return
        refusals = self.ledger.begin(entry.id)
        if refusals >= self.archive.max_refusals:
            detail = f"the archive refused this object {refusals} times, last with status {status}"
            if report.answer is Answer.NOT_NEGOTIATED:
                detail = "the archive does not accept this SOP class in this transfer syntax"
            self._hold(entry, Held(f"archive-{report.answer}", detail), None)


def rotated(items: Sequence[T], by: int) -> list[T]:
    """The same items, starting ``by`` places further on."""
    start = by % len(items) if items else 0
    return [*items[start:], *items[:start]]


def _since(start: float) -> float:
    return round(time.perf_counter() - start, 3)
