"""The listener in this process, against senders that do what senders should not."""

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest
from photographs import photograph, save, skin
from pydicom import Dataset, dcmread
from pydicom.uid import (
    MPEG2MPML,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    VLPhotographicImageStorage,
)
from pynetdicom import AE, _config, build_context, dimse_messages
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.dimse_primitives import C_STORE
from system.peers import echoscu, storescu, wait_until

from gateway import receive
from gateway.audit import Trail
from gateway.errors import Misconfigured, Postponed
from gateway.instance import State
from gateway.ledger import Ledger
from gateway.receive import Desk, Intake, Reception
from gateway.schema import sqlite_url
from gateway.settings import Listener, Peer
from gateway.spool import Spool

pytestmark = pytest.mark.system


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    ledger = Ledger(sqlite_url(tmp_path / "ledger.sqlite"))
    intake = Intake(Spool(tmp_path / "spool", 0), ledger, 16 << 20)
    yield Desk(Listener(port=0), (Peer("PACS"),), intake, Trail(tmp_path / "audit.jsonl"))
    ledger.close()


@pytest.fixture
def listening(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Desk], Reception]]:
    monkeypatch.setattr(dimse_messages, "NamedTemporaryFile", tempfile.NamedTemporaryFile)
    for name in ("STORE_RECV_CHUNKED_DATASET", "STORE_SEND_CHUNKED_DATASET", "LOG_HANDLER_LEVEL"):
        monkeypatch.setattr(_config, name, getattr(_config, name))
    receptions: list[Reception] = []

    def start(desk: Desk) -> Reception:
        receptions.append(receive.listen(desk))
        return receptions[-1]

    yield start
    for reception in receptions:
        reception.stop()


def send(reception: Reception, file: Path, syntax: str = ExplicitVRLittleEndian, *, claims: str = "") -> int:
    """The status of sending a file's bytes as they are, under the file meta's or another SOP Instance UID."""
    _config.STORE_SEND_CHUNKED_DATASET = True
    if claims:
        ds = dcmread(file)
        ds.file_meta.MediaStorageSOPInstanceUID = claims
        stream = BytesIO()
        ds.save_as(stream, enforce_file_format=False)
        file.write_bytes(stream.getvalue())
    contexts = [build_context(VLPhotographicImageStorage, [syntax])]
    association = AE("PACS").associate("127.0.0.1", reception.port, contexts, ae_title="ANOSKIN")
    assert association.is_established
    try:
        return int(association.send_c_store(file).Status)
    finally:
        association.release()


def stored(desk: Desk) -> list[State]:
    return [entry.state for entry in desk.intake.ledger.entries()]


def left_over(desk: Desk) -> list[Path]:
    return list(desk.intake.spool.incoming.iterdir())


def test_an_acknowledged_object_is_on_disk_as_it_was_sent_and_in_the_ledger(
    desk: Desk, listening: Callable[[Desk], Reception], tmp_path: Path
) -> None:
    reception = listening(desk)
    sent = photograph(skin(), syntax=JPEGLSLossless)
    assert send(reception, save(sent, tmp_path / "a.dcm"), JPEGLSLossless) == 0x0000
    (entry,) = desk.intake.ledger.entries()
    kept = desk.intake.spool.original(entry.instance.sha256)
    assert dcmread(kept) == sent
    assert dcmread(kept).file_meta.TransferSyntaxUID == JPEGLSLossless == entry.instance.transfer_syntax
    assert kept.stat().st_size == entry.instance.size_bytes
    assert left_over(desk) == []
    wait_until(lambda: desk.trail.head().seq, "the association is in the trail")
    assert "association.closed" in (tmp_path / "audit.jsonl").read_text(encoding="utf-8")


def test_the_bytes_are_durable_before_the_row_and_the_row_before_the_answer(
    desk: Desk, listening: Callable[[Desk], Reception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    sync, keep, record = os.fsync, Spool.keep_original, Ledger.record
    monkeypatch.setattr(os, "fsync", lambda descriptor: (steps.append("fsync"), sync(descriptor))[1])
    monkeypatch.setattr(Spool, "keep_original", lambda *a: (keep(*a), steps.append("kept"))[0])
    monkeypatch.setattr(Ledger, "record", lambda *a: (record(*a), steps.append("recorded"))[0])
    reception = listening(desk)
    steps.clear()
    assert send(reception, save(photograph(skin()), tmp_path / "a.dcm")) == 0x0000
    assert steps[:4] == ["fsync", "fsync", "kept", "recorded"]


def test_originals_the_ledger_lost_are_noted_again_and_half_written_ones_go(
    desk: Desk, listening: Callable[[Desk], Reception], tmp_path: Path
) -> None:
    reception = listening(desk)
    for seed in range(3):
        assert send(reception, save(photograph(skin(seed=seed)), tmp_path / "a.dcm")) == 0x0000
    before = {entry.instance for entry in desk.intake.ledger.entries()}
    lost = Ledger(sqlite_url(tmp_path / "fresh.sqlite"))
    intake = replace(desk.intake, ledger=lost, max_bytes=1)
    half = intake.spool.original("a" * 64)
    half.write_bytes(intake.spool.original(next(iter(before)).sha256).read_bytes()[:-100])
    assert intake.recover() == 3
    assert intake.recover() == 0
    assert {entry.instance for entry in lost.entries()} == before
    assert not half.exists()
    lost.close()


def test_what_cannot_be_noted_again_stays_and_stops_nothing(
    desk: Desk, listening: Callable[[Desk], Reception], tmp_path: Path
) -> None:
    reception = listening(desk)
    assert send(reception, save(photograph(skin()), tmp_path / "a.dcm")) == 0x0000
    (entry,) = desk.intake.ledger.entries()
    spool, lost = desk.intake.spool, Ledger(sqlite_url(tmp_path / "fresh.sqlite"))
    whole = spool.original(entry.instance.sha256).read_bytes()
    start = 144 + int.from_bytes(whole[140:144], "little")
    noise = whole[:start] + bytes(range(256))
    strange = spool.original(hashlib.sha256(noise[start:]).hexdigest())
    strange.write_bytes(noise)
    (strange.parent / "copy of a photograph.dcm").write_bytes(whole)
    assert replace(desk.intake, ledger=lost).recover() == 1
    assert strange.exists()
    assert [found.instance for found in lost.entries()] == [entry.instance]
    lost.close()


def test_a_repetition_cut_off_before_it_was_noted_leaves_no_retired_original(
    desk: Desk, listening: Callable[[Desk], Reception], tmp_path: Path
) -> None:
    reception = listening(desk)
    assert send(reception, save(photograph(skin()), tmp_path / "a.dcm")) == 0x0000
    (entry,) = desk.intake.ledger.entries()
    desk.intake.ledger.removed("original", [entry.id])
    assert desk.intake.recover() == 0
    assert list(desk.intake.spool.originals()) == []


def test_a_repetition_brings_no_retired_original_back(
    desk: Desk, listening: Callable[[Desk], Reception], tmp_path: Path
) -> None:
    reception = listening(desk)
    file = save(photograph(skin()), tmp_path / "a.dcm")
    assert send(reception, file) == 0x0000
    (entry,) = desk.intake.ledger.entries()
    desk.intake.spool.remove("original", entry.instance.sha256)
    desk.intake.ledger.removed("original", [entry.id])
    assert send(reception, file) == 0x0000
    assert list(desk.intake.spool.originals()) == []
    assert stored(desk) == [State.RECEIVED]


@pytest.mark.parametrize("what", ["cut", "noise", "empty", "syntax"])
def test_what_cannot_be_read_is_answered_c000_and_not_kept(
    desk: Desk, listening: Callable[[Desk], Reception], tmp_path: Path, what: str
) -> None:
    file = save(photograph(skin()), tmp_path / "a.dcm")
    whole = file.read_bytes()
    start = 144 + int.from_bytes(whole[140:144], "little")
    syntax = ImplicitVRLittleEndian if what == "syntax" else ExplicitVRLittleEndian
    spoiled = {"cut": whole[:-1000], "noise": whole[:start] + os.urandom(5000), "empty": whole[: start + 2]}
    file.write_bytes(spoiled.get(what, whole))
    if what == "syntax":
        file.write_bytes(whole.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2\0\0\0", 1))
    reception = listening(desk)
    assert send(reception, file, syntax) == 0xC000
    assert stored(desk) == []
    assert left_over(desk) == []


def test_an_object_beyond_the_size_limit_is_not_kept(
    desk: Desk, listening: Callable[[Desk], Reception], tmp_path: Path
) -> None:
    small = replace(desk, intake=replace(desk.intake, max_bytes=10_000))
    assert send(listening(small), save(photograph(skin()), tmp_path / "a.dcm")) == 0xC000
    bomb = photograph(skin(8, 8))
    bomb.PixelData = bytes(4 << 20)
    bomb.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    file = save(bomb, tmp_path / "b.dcm")
    assert file.stat().st_size < 10_000
    assert send(listening(small), file, DeflatedExplicitVRLittleEndian) == 0xC000
    assert stored(desk) == []


def test_an_object_that_is_not_the_one_announced_is_answered_a900(
    desk: Desk, listening: Callable[[Desk], Reception], tmp_path: Path
) -> None:
    file = save(photograph(skin()), tmp_path / "a.dcm")
    assert send(listening(desk), file, claims="1.2.3.4") == 0xA900
    no_pixels: Dataset = photograph(skin())
    del no_pixels.PixelData
    assert send(listening(desk), save(no_pixels, tmp_path / "b.dcm")) == 0xA900
    assert stored(desk) == []
    assert left_over(desk) == []


def test_below_the_reserve_is_answered_a700_and_works_again_with_room(
    desk: Desk, listening: Callable[[Desk], Reception], tmp_path: Path
) -> None:
    file = save(photograph(skin()), tmp_path / "a.dcm")
    full = replace(desk, intake=replace(desk.intake, spool=Spool(tmp_path / "spool", 1 << 62)))
    result = storescu(listening(full).port, [file])
    assert "Refused: OutOfResources" in result.stderr
    assert stored(desk) == []
    assert storescu(listening(desk).port, [file]).returncode == 0
    assert stored(desk) == [State.RECEIVED]


def test_a_disk_that_fills_up_during_a_transfer_is_answered_a700_and_is_free_again(
    desk: Desk, listening: Callable[[Desk], Reception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, room = os.write, [100_000]

    def limited(descriptor: int, data: bytes) -> int:
        if len(data) > room[0]:
            raise OSError(28, "No space left on device")
        room[0] -= len(data)
        return write(descriptor, data)

    files = [save(photograph(skin(side, side)), tmp_path / f"{side}.dcm") for side in (300, 64)]
    reception = listening(desk)
    monkeypatch.setattr(os, "write", limited)
    result = storescu(reception.port, [files[0]])
    assert "Refused: OutOfResources" in result.stderr, result.stderr
    assert left_over(desk) == []
    room[0] = 100_000
    assert storescu(reception.port, [files[1]]).returncode == 0
    assert stored(desk) == [State.RECEIVED]


@pytest.mark.parametrize("error", [Postponed("ledger", "a sentence"), RuntimeError("Zweifelsfrei")])
def test_a_ledger_that_fails_is_answered_a700(
    desk: Desk,
    listening: Callable[[Desk], Reception],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(Ledger, "record", fail)
    assert send(listening(desk), save(photograph(skin()), tmp_path / "a.dcm")) == 0xA700
    assert stored(desk) == []


@pytest.mark.parametrize(
    ("peers", "accept_any_peer", "welcome"),
    [
        ((), False, False),
        ((), True, True),
        ((Peer("PACS", "127.0.0.9"),), False, False),
        ((Peer("PACS", "127.0.0.1"),), False, True),
        ((Peer("pacs"),), False, False),
        ((Peer("OTHER"), Peer("PACS")), False, True),
    ],
)
def test_a_sender_is_known_by_its_name_and_its_address(
    desk: Desk,
    listening: Callable[[Desk], Reception],
    peers: tuple[Peer, ...],
    accept_any_peer: bool,
    welcome: bool,
) -> None:
    listener = replace(desk.listener, accept_any_peer=accept_any_peer)
    reception = listening(replace(desk, listener=listener, peers=peers))
    assert (echoscu(reception.port) == 0) is welcome
    wait_until(lambda: desk.trail.head().seq == (0 if welcome else 1), "rejections are in the trail")


def test_syntaxes_that_cannot_be_decoded_are_not_negotiated(
    desk: Desk, listening: Callable[[Desk], Reception]
) -> None:
    reception = listening(desk)
    contexts = [
        build_context(VLPhotographicImageStorage, [syntax]) for syntax in (MPEG2MPML, JPEG2000Lossless)
    ]
    association = AE("PACS").associate("127.0.0.1", reception.port, contexts, ae_title="ANOSKIN")
    accepted = [context.transfer_syntax[0] for context in association.accepted_contexts]
    association.release()
    assert accepted == [JPEG2000Lossless]


def test_a_sender_that_goes_away_leaves_nothing(desk: Desk, listening: Callable[[Desk], Reception]) -> None:
    reception = listening(desk)
    contexts = [build_context(VLPhotographicImageStorage, [ExplicitVRLittleEndian])]
    association = AE("PACS").associate("127.0.0.1", reception.port, contexts, ae_title="ANOSKIN")
    request = C_STORE()
    request.MessageID = 1
    request.Priority = 2
    request.AffectedSOPClassUID = VLPhotographicImageStorage
    request.AffectedSOPInstanceUID = "1.2.3"
    request.DataSet = BytesIO(bytes(1 << 20))
    message = C_STORE_RQ()
    message.primitive_to_message(request)
    fragments = list(message.encode_msg(association.accepted_contexts[0].context_id, 16382))
    for fragment in fragments[:3]:
        association.dul.send_pdu(fragment)
    wait_until(lambda: left_over(desk), "the object begins to arrive")
    association.abort()
    wait_until(lambda: not left_over(desk), "the incomplete object is gone")
    assert stored(desk) == []


def test_a_port_in_use_is_a_wrong_setting(desk: Desk, listening: Callable[[Desk], Reception]) -> None:
    reception = listening(desk)
    with pytest.raises(Misconfigured, match=rf"127\.0\.0\.1:{reception.port}"):
        receive.listen(replace(desk, listener=replace(desk.listener, port=reception.port)))
