"""The storage SCU: sends clean objects to the archive and says, for each, what the archive said.

Presentation contexts are negotiated from what there is to send: one context for each pair of SOP class and
transfer syntax, so that an accepted context is sent as it is, never re-encoded (PS3.8 9.3.2.2, PS3.7 9.1.1).
"""

import contextlib
import hashlib
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from pydicom.uid import UID
from pynetdicom import AE, _config, build_context, evt
from pynetdicom.association import Association

from gateway.errors import Postponed
from gateway.schema import InstanceId
from gateway.settings import Archive

CONTEXTS: Final = 128
"""Presentation contexts of one association: the odd numbers below 256 (PS3.8 9.3.2.2)."""

DUPLICATE: Final = 0x0111
PROCESSING_FAILURE: Final = 0x0110


class Answer(StrEnum):
    """What became of one object at the archive."""

    STORED = "stored"  # it is there
    LATER = "later"  # the archive cannot take it now
    REFUSED = "refused"  # it says it will not take this object
    NOT_NEGOTIATED = "not-negotiated"  # it does not take objects of this kind
    CHANGED = "changed"  # what is on disk is not what passed the gates; it was not sent


@dataclass(frozen=True, slots=True)
class Shipment:
    """One clean object to send.

    Attributes
    ----------
    id
        Its row in the ledger.
    file
        Complete Part 10 file.
    sha256
        Digest of the file that passed the gates.
    sop_class, transfer_syntax
        What has to be negotiated.
    """

    id: InstanceId
    file: Path
    sha256: str
    sop_class: str
    transfer_syntax: str


@dataclass(frozen=True, slots=True)
class Report:
    """What the archive answered for one object.

    Attributes
    ----------
    id
        The row in the ledger.
    answer
        Its meaning.
    status
        DIMSE status, ``None`` where nothing was sent.
    """

    id: InstanceId
    answer: Answer
    status: int | None


def meaning(status: int) -> Answer:
    """What a C-STORE status means for what happens next (PS3.4 B.2.3, PS3.7 annex C).

    Warnings (0x0001, 0xBxxx) mean stored, and so does *duplicate SOP instance*: an object is its UID. Out of
    resources (0xA7xx) and *processing failure* pass; every other failure is about the object and does not.
    """
    if status in (0x0000, 0x0001, DUPLICATE) or 0xB000 <= status <= 0xBFFF:
        return Answer.STORED
    if status == PROCESSING_FAILURE or 0xA700 <= status <= 0xA7FF:
        return Answer.LATER
    return Answer.REFUSED


def backoff_s(attempt: int, archive: Archive) -> float:
    """Seconds to wait after the given attempt, counted from 0: exponential up to a limit."""
    growth = min(attempt, 64)  # beyond, the limit has long been reached and the power would overflow
    return min(archive.initial_s * archive.factor**growth, archive.max_s)


def send(shipments: Sequence[Shipment], archive: Archive, settle: Callable[[Report], None]) -> None:
    """Offer every shipment to the archive, over one association where its contexts fit into one.

    Parameters
    ----------
    shipments
        What to send, in this order.
    archive
        Where to.
    settle
        Called with each answer as soon as it is there.

    Raises
    ------
    Postponed
        The archive could not be reached, or went away, or the disk did; what had no answer by then was not reported.
    """
    _config.STORE_SEND_CHUNKED_DATASET = True
    for batch in batches(shipments):
        with _associated(batch, archive) as association:
            accepted = {
                (str(context.abstract_syntax), str(context.transfer_syntax[0]))
                for context in association.accepted_contexts
            }
            for number, shipment in enumerate(batch, start=1):
                if (shipment.sop_class, shipment.transfer_syntax) not in accepted:
                    settle(Report(shipment.id, Answer.NOT_NEGOTIATED, None))
                    continue
                if not _is_unchanged(shipment):
                    settle(Report(shipment.id, Answer.CHANGED, None))
                    continue
                status = _store(association, shipment, number)
                settle(Report(shipment.id, meaning(status), status))


def batches(shipments: Sequence[Shipment]) -> list[list[Shipment]]:
    """Shipments in groups that need no more than `CONTEXTS` presentation contexts each, order kept."""
    groups: list[list[Shipment]] = []
    kinds: set[tuple[str, str]] = set()
    for shipment in shipments:
        kind = (shipment.sop_class, shipment.transfer_syntax)
        if not groups or (kind not in kinds and len(kinds) == CONTEXTS):
            groups.append([])
            kinds = set()
        kinds.add(kind)
        groups[-1].append(shipment)
    return groups


@contextlib.contextmanager
def _associated(batch: Sequence[Shipment], archive: Archive) -> Iterator[Association]:
    """An association with a context for every kind of object in the batch, released at the end.

    Raises
    ------
    Postponed
        The archive is away or does not want to talk.
    """
    entity = AE(ae_title=archive.calling_ae_title)
    entity.connection_timeout = entity.acse_timeout = archive.timeout_s
    entity.dimse_timeout = entity.network_timeout = archive.timeout_s
    kinds = dict.fromkeys((shipment.sop_class, shipment.transfer_syntax) for shipment in batch)
    contexts = [build_context(UID(sop_class), [UID(syntax)]) for sop_class, syntax in kinds]
    handlers: list[Any] = [(evt.EVT_CONN_OPEN, _hurry), (evt.EVT_DATA_SENT, _hurry)]
    association = entity.associate(
        archive.host, archive.port, contexts, ae_title=archive.ae_title, evt_handlers=handlers
    )
    if association.is_rejected:
        raise Postponed(
            "archive-rejected", "the archive rejected the association; it may not know this gateway"
        )
    # pynetdicom aborts where no context at all was accepted; that is an answer, not an absent archive.
    if not association.is_established and not association.rejected_contexts:
        raise Postponed("archive-away", "the archive could not be reached")
    try:
        yield association
    finally:
        if association.is_established:
            association.release()


def _is_unchanged(shipment: Shipment) -> bool:
    """Whether the file is still the one that passed the gates.

    Raises
    ------
    Postponed
        The disk cannot be read now.
    """
    try:
        with shipment.file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest() == shipment.sha256
    except FileNotFoundError:
        return False
    except OSError as error:
        raise Postponed("spool", f"a clean file cannot be read ({error.strerror})") from error


def _store(association: Association, shipment: Shipment, number: int) -> int:
    """The status of one C-STORE.

    Raises
    ------
    Postponed
        There was no answer.
    """
    try:
        answer = association.send_c_store(shipment.file, msg_id=number % 0xFFFF)
    except (RuntimeError, OSError) as error:
        raise Postponed("archive-away", "the archive went away while an object was sent") from error
    if "Status" not in answer:
        raise Postponed("archive-away", "the archive did not answer")
    return int(answer.Status)


def _hurry(event: Any) -> None:
    """Send small packets at once, and acknowledge the peer's at once; waiting costs 40 ms an object.

    Linux forgets the second wish after a while, so it is made again whenever something was sent.
    """
    connection = event.assoc.dul.socket.socket
    with contextlib.suppress(OSError, AttributeError):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
