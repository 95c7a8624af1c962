"""The storage SCP: what is acknowledged with 0x0000 is on disk and in the ledger, whatever happens next.

Handlers are plain functions; the clauses they follow stand in their docstrings. Nothing but the four
identifiers of an object is looked at here.
"""

import contextlib
import itertools
import sys
import time
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from weakref import WeakKeyDictionary

from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID, AllTransferSyntaxes
from pynetdicom import AE, _config, evt
from pynetdicom.association import Association

from gateway import growing, header, log
from gateway.audit import Trail
from gateway.errors import GatewayError, Misconfigured, Outcome, Postponed
from gateway.growing import Growing
from gateway.instance import Instance, OriginalUid
from gateway.ledger import Ledger
from gateway.objects import Treatment
from gateway.settings import Listener, Objects, Peer
from gateway.spool import Spool

VERIFICATION: Final = UID("1.2.840.10008.1.1")

SUCCESS: Final = 0x0000
OUT_OF_RESOURCES: Final = 0xA700
MISMATCH: Final = 0xA900
CANNOT_UNDERSTAND: Final = 0xC000

BATCH: Final = 500
NEGOTIATION_S: Final = 15.0
"""Longest wait for an association request, and for a peer to close the connection after an abort."""
RECOVERED: Final = "(recovered)"
"""In the place of the sender, where it is no longer known; no AE title has this form by accident."""

REJECTED_PERMANENT, BY_USER, CALLING_AE_UNKNOWN = 0x01, 0x01, 0x03


def decodable() -> list[UID]:
    """Transfer syntaxes whose pixels can be decoded here; what is treated may come in all of them."""
    found = []
    for syntax in AllTransferSyntaxes:
        with contextlib.suppress(NotImplementedError):
            if get_decoder(syntax).is_available:
                found.append(syntax)
    return found


def offered(objects: Objects) -> dict[UID, list[UID]]:
    """The transfer syntaxes in which each kind of object may come: what is refused anyway, in all there are."""
    treated = decodable()
    return {
        sop_class: list(AllTransferSyntaxes) if treatment is Treatment.REFUSE else treated
        for sop_class, treatment in objects.received().items()
    }


class Mismatch(GatewayError):
    """The data set is not what the C-STORE request announced."""


@dataclass(frozen=True, slots=True)
class Intake:
    """What accepting an object needs.

    Attributes
    ----------
    spool, ledger
        Where it is kept and noted.
    max_bytes
        Largest data set accepted.
    objects
        What happens to each kind of object; what is to be treated must have pixels.
    """

    spool: Spool
    ledger: Ledger
    max_bytes: int
    objects: Objects = field(default_factory=Objects)

    def grow(self) -> Growing:
        """A file for the next object."""
        return Growing(self.spool.incoming, self.max_bytes, self.spool.check_reserve)

    def accept(self, file: Growing, announced: "Announced", peer: str) -> None:
        """Take an object in; it is durable when this returns.

        Parameters
        ----------
        file
            It has grown into a complete Part 10 file.
        announced
            What the C-STORE request said.
        peer
            AE title of the sender.

        Raises
        ------
        Unparsable
            It cannot be read up to its pixels; it is not kept.
        Mismatch
            It is something else than was announced; it is not kept.
        Postponed
            Disk or ledger cannot take it now.
        """
        start = time.perf_counter()
        file.check()
        flushed = self.spool.flush(file.path)
        found = header.read(file.path, announced.transfer_syntax, self.max_bytes, sha256=file.sha256)
        if (found.sop_class, found.sop_instance) != (announced.sop_class, announced.sop_instance):
            raise Mismatch("the data set is not the instance that was announced")
        if not found.has_pixels and self.objects.treatment(found.sop_class) is Treatment.TREAT:
            raise Mismatch("an image without pixels")
        instance = _instance(found, announced.transfer_syntax)
        self.spool.keep_original(file.path, found.sha256, flushed)
        entry, is_new = self.ledger.record(instance, peer)
        seconds = round(time.perf_counter() - start, 4)
        if is_new:
            log.get().info(
                "instance.received",
                instance=entry.id,
                peer=peer,
                size_bytes=found.size_bytes,
                seconds=seconds,
            )
        else:
            log.get().info("instance.repeated", instance=entry.id, peer=peer)
            if entry.original_gone:
                self.spool.remove("original", found.sha256)
        if is_new and entry.reason is not None:
            log.get().warning("instance.held", instance=entry.id, reason=entry.reason)

    def recover(self) -> int:
        """Bring originals and rows together again, after a power cut or with a ledger that was restored.

        An original without a row is noted; one that can no longer be read stays where it is, and is told; one whose
        time was over before is removed again.

        Returns
        -------
        int
            Number of rows made.

        Raises
        ------
        Postponed
            Disk or ledger cannot be used now.
        """
        made = unreadable = 0
        digests = self.spool.originals()
        while batch := list(itertools.islice(digests, BATCH)):
            for digest in self.ledger.retired(batch):
                self.spool.remove("original", digest)
            for digest in self.ledger.unknown(batch):
                try:
                    made += self._recover(self.spool.original(digest), digest)
                except header.Unparsable:
                    unreadable += 1
                except OSError as error:
                    raise Postponed("spool", f"an original cannot be read ({error.strerror})") from error
        if unreadable:
            log.get().error("spool.unreadable", originals=unreadable)
        return made

    def _recover(self, file: Path, digest: str) -> bool:
        if header.digest(file) != digest:
            # Half-written: its bytes were never durable, so it was never acknowledged.
            self.spool.remove("original", digest)
            return False
        syntax = header.transfer_syntax(file)
        found = header.read(file, syntax, sys.maxsize, sha256=digest)
        entry, is_new = self.ledger.record(_instance(found, syntax), RECOVERED)
        log.get().warning("instance.recovered", instance=entry.id)
        return is_new


def _instance(found: header.Header, transfer_syntax: UID) -> Instance:
    return Instance(
        sop_instance=OriginalUid(found.sop_instance),
        study=OriginalUid(found.study),
        series=OriginalUid(found.series),
        sop_class=found.sop_class,
        transfer_syntax=str(transfer_syntax),
        sha256=found.sha256,
        size_bytes=found.size_bytes,
    )


@dataclass(frozen=True, slots=True)
class Announced:
    """What a C-STORE request and its presentation context say about the data set that follows."""

    sop_class: str
    sop_instance: str
    transfer_syntax: UID


@dataclass(frozen=True, slots=True)
class Desk:
    """What the handlers of one listener share.

    Attributes
    ----------
    listener, peers
        Who may come.
    intake
        Takes objects in.
    trail
        Notes who came.
    kept
        Objects kept, for each open association.
    """

    listener: Listener
    peers: tuple[Peer, ...]
    intake: Intake
    trail: Trail
    kept: MutableMapping[Association, int] = field(default_factory=WeakKeyDictionary)


def handle_store(event: Any, desk: Desk) -> int:
    """C-STORE (PS3.7 9.1.1; statuses PS3.4 B.2.3): durable first, then 0x0000.

    Returns
    -------
    int
        0x0000 kept; 0xA700 disk or ledger cannot take it; 0xA900 not what was announced; 0xC000 unreadable.
    """
    peer = str(event.assoc.requestor.ae_title).strip()
    request = event.request
    announced = Announced(
        str(request.AffectedSOPClassUID),
        str(request.AffectedSOPInstanceUID),
        UID(event.context.transfer_syntax),
    )
    try:
        desk.intake.accept(_grown(event), announced, peer)
    except header.Unparsable as error:
        return _decline(CANNOT_UNDERSTAND, peer, "unparsable", error)
    except Mismatch as error:
        return _decline(MISMATCH, peer, "mismatch", error)
    except Outcome as error:
        return _decline(OUT_OF_RESOURCES, peer, error.reason, error)
    except Exception as error:  # noqa: BLE001 - whatever it is, the sender keeps its copy and tries again
        return _decline(OUT_OF_RESOURCES, peer, "defect", error)
    desk.kept[event.assoc] = desk.kept.get(event.assoc, 0) + 1
    return SUCCESS


def _grown(event: Any) -> Growing:
    # pynetdicom tells handlers the path alone; what its file knows besides need not be read again.
    file = event.request._dataset_file
    if not isinstance(file, Growing):
        raise header.Unparsable("there is no data set")
    return file


def handle_echo(_event: Any) -> int:
    """C-ECHO (PS3.7 9.1.5): success."""
    return SUCCESS


def handle_requested(event: Any, desk: Desk) -> None:
    """A-ASSOCIATE-RQ (PS3.8 9.3.4): who is not listed is rejected, *calling AE title not recognized*."""
    requestor = event.assoc.requestor
    title, address = str(requestor.primitive.calling_ae_title).strip(), str(requestor.address)
    if desk.listener.accept_any_peer or any(_is(peer, title, address) for peer in desk.peers):
        log.get().debug("association.opened", peer=title, address=address)
        return
    event.assoc.acse.send_reject(REJECTED_PERMANENT, BY_USER, CALLING_AE_UNKNOWN)
    event.assoc.kill()
    log.get().warning("association.rejected", peer=title, address=address, reason="unknown-peer")
    desk.trail.append(f"peer:{title}", "association.rejected", {"address": address})


def handle_closed(event: Any, desk: Desk) -> None:
    """The connection is gone: note who sent how many objects, and drop one that was not complete."""
    # pynetdicom keeps the file of an incomplete object open, and leaves it where it is.
    incomplete = getattr(event.assoc.dimse.message, "_data_set_file", None)
    if incomplete is not None:
        incomplete.close()
    kept = desk.kept.pop(event.assoc, 0)
    if not kept:
        return
    peer = str(event.assoc.requestor.ae_title).strip()
    log.get().info("association.closed", peer=peer, received=kept)
    desk.trail.append(f"peer:{peer}", "association.closed", {"received": kept})


def _is(peer: Peer, title: str, address: str) -> bool:
    return peer.ae_title.strip() == title and peer.host in ("", address)


def _decline(status: int, peer: str, reason: str, error: Exception) -> int:
    """Log and return a failure; the file stays in ``incoming``, from where pynetdicom removes it."""
    detail = type(error).__name__ if reason == "defect" else reason
    log.get().warning("instance.declined", peer=peer, status=f"0x{status:04X}", reason=detail)
    return status


@dataclass(frozen=True, slots=True)
class Reception:
    """A running listener.

    Attributes
    ----------
    port
        The port it is bound to.
    stop
        Accepts no more associations and ends those that are open; an object in transfer is not acknowledged.
    """

    port: int
    stop: Callable[[], None]


def listen(desk: Desk) -> Reception:
    """Start receiving.

    Raises
    ------
    Misconfigured
        The address cannot be listened on.
    """
    _config.STORE_RECV_CHUNKED_DATASET = True
    _config.LOG_HANDLER_LEVEL = "none"
    listener = desk.listener
    growing.install(desk.intake.grow)
    desk.intake.spool.sweep_incoming(0)
    entity = AE(ae_title=listener.ae_title)
    entity.require_called_aet = True
    entity.maximum_associations = listener.max_associations
    entity.maximum_pdu_size = listener.max_pdu
    entity.network_timeout = entity.dimse_timeout = listener.timeout_s
    entity.acse_timeout = min(listener.timeout_s, NEGOTIATION_S)
    entity.add_supported_context(VERIFICATION)
    for sop_class, syntaxes in offered(desk.intake.objects).items():
        entity.add_supported_context(sop_class, syntaxes)
    handlers: list[Any] = [
        (evt.EVT_REQUESTED, handle_requested, [desk]),
        (evt.EVT_C_ECHO, handle_echo),
        (evt.EVT_C_STORE, handle_store, [desk]),
        (evt.EVT_CONN_CLOSE, handle_closed, [desk]),
    ]
    try:
        server = entity.start_server((listener.host, listener.port), block=False, evt_handlers=handlers)
    except OSError as error:
        where = f"{listener.host}:{listener.port}"
        raise Misconfigured(f"[listener] cannot listen on {where} ({error.strerror}).") from error
    assert server is not None
    return Reception(int(server.server_address[1]), entity.shutdown)
