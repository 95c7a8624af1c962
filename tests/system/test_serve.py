"""``gateway serve`` as a process between real peers: DCMTK sends, Orthanc or a test archive receives."""

import json
import signal
import socket
import subprocess
from pathlib import Path

import pytest
from photographs import companion, encoded, photograph, save, skin
from pydicom.encaps import encapsulate
from pydicom.uid import (
    MPEG4HP41,
    ComprehensiveSRStorage,
    DeflatedExplicitVRLittleEndian,
    DermoscopicPhotographyImageStorage,
    EncapsulatedPDFStorage,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
    VideoPhotographicImageStorage,
    generate_uid,
)
from system.peers import (
    DEADLINE_S,
    Archive,
    Gateway,
    echoscu,
    find_program,
    free_port,
    gateway,
    orthanc,
    storescu,
    wait_until,
)
from system.stand_in import PLACES, pseudonym

from gateway.instance import State
from gateway.ledger import Ledger
from gateway.pipeline import SENDERS
from gateway.schema import sqlite_url

pytestmark = pytest.mark.system


def settled(peer: Gateway, number: int, *states: State) -> None:
    """Wait until this many instances are in one of these states."""
    ledger = Ledger(sqlite_url(peer.folder / "state" / "ledger.sqlite"))
    try:
        wait_until(
            lambda: sum(ledger.counts()[state] for state in states) == number,
            f"{number} instances become {' or '.join(states)}",
        )
    finally:
        ledger.close()


def photographs(
    folder: Path, number: int, *, description: str = "Face", study: str | None = None
) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    study = study or generate_uid()
    files = []
    for index in range(number):
        ds = photograph(skin(seed=index), study=study)
        ds.SeriesDescription = description
        files.append(save(ds, folder / f"{ds.SOPInstanceUID}.dcm"))
    return files


def uids(files: list[Path]) -> list[str]:
    return sorted(pseudonym(file.stem) for file in files)


def test_photographs_of_every_kind_reach_orthanc_and_the_service_ends_cleanly(tmp_path: Path) -> None:
    base = photograph(skin())
    kinds = [
        encoded(base, ImplicitVRLittleEndian),
        photograph(skin(seed=1), syntax=ExplicitVRBigEndian),
        photograph(
            skin(seed=2), syntax=DeflatedExplicitVRLittleEndian, sop_class=SecondaryCaptureImageStorage
        ),
        photograph(skin(seed=3), syntax=RLELossless),
        photograph(skin(seed=4), syntax=JPEGBaseline8Bit, sop_class=DermoscopicPhotographyImageStorage),
        photograph(skin(seed=5), syntax=JPEGLSLossless),
        photograph(
            skin(seed=6)[None].repeat(3, 0), sop_class=MultiFrameTrueColorSecondaryCaptureImageStorage
        ),
    ]
    sent = []
    with orthanc(tmp_path / "orthanc") as archive, gateway(tmp_path / "gateway", archive.port) as peer:
        assert echoscu(peer.port) == 0
        options = {"Deflated": "-xd", "RLE Lossless": "-xr", "JPEG Baseline": "-xy", "JPEG-LS": "-xt"}
        for number, ds in enumerate(kinds):
            file = save(ds, tmp_path / f"{number}.dcm")
            name = ds.file_meta.TransferSyntaxUID.name
            chosen = next((option for start, option in options.items() if name.startswith(start)), "-xe")
            result = storescu(peer.port, [file], options=["-R", *([chosen] if chosen != "-xe" else [])])
            assert result.returncode == 0, result.stderr
            assert "Received Store Response (Success)" in result.stderr, result.stderr
            sent.append(pseudonym(str(ds.SOPInstanceUID)))
        settled(peer, len(kinds), State.FORWARDED)
        assert sorted(archive.uids()) == sorted(sent)
        assert peer.counts() == {
            "received": 0,
            "cleared": 0,
            "held": 0,
            "refused": 0,
            "forwarded": len(kinds),
        }
        assert peer.run("audit", "verify").returncode == 0
        assert peer.stop() == 0
    said = (peer.folder / "log.jsonl").read_text(encoding="utf-8")
    assert '"service.stopped"' in said
    for token in ("Zweifelsfrei", "PID-7731", "Knochenhauer", "19510417", str(base.SOPInstanceUID)):
        assert token not in said
        assert token not in (peer.folder / "state" / "audit.jsonl").read_text(encoding="utf-8")


def test_unknown_senders_wrong_names_and_other_sop_classes_are_turned_away(tmp_path: Path) -> None:
    with gateway(tmp_path / "gateway", free_port()) as peer:
        assert echoscu(peer.port, calling="PACS") == 0
        assert echoscu(peer.port, calling="NOBODY") != 0
        assert echoscu(peer.port, called="ELSEWHERE") != 0
        result = storescu(peer.port, photographs(tmp_path, 1), calling="NOBODY")
        assert result.returncode != 0
        assert "Calling AE Title Not Recognized" in result.stderr
        assert peer.wait_for("association.rejected")["peer"] == "NOBODY"
        ct = photograph(skin(), sop_class="1.2.840.10008.5.1.4.1.1.2")
        result = storescu(peer.port, [save(ct, tmp_path / "ct.dcm")], options=["-R"])
        assert "No Acceptable Presentation Contexts" in result.stderr
        assert sum(peer.counts().values()) == 0


def test_reports_and_videos_of_a_study_are_refused_with_a_reason_and_its_photographs_go_on(
    tmp_path: Path,
) -> None:
    photographed = photograph(skin())
    study = str(photographed.StudyInstanceUID)
    others = [companion(kind, study=study) for kind in (ComprehensiveSRStorage, EncapsulatedPDFStorage)]
    video = photograph(skin(), study=study, sop_class=VideoPhotographicImageStorage)
    video.PixelData = encapsulate([b"\x00\x00\x01\xb3 no video of anybody "])
    video["PixelData"].is_undefined_length = True
    video.file_meta.TransferSyntaxUID = MPEG4HP41
    files = [save(ds, tmp_path / f"{n}.dcm") for n, ds in enumerate((photographed, *others))]
    with Archive() as archive, gateway(tmp_path / "gateway", archive.port) as peer:
        for file in files:
            assert "(Success)" in storescu(peer.port, [file], options=["-R"]).stderr
        film = storescu(peer.port, [save(video, tmp_path / "video.dcm")], options=["-R", "-xn"])
        assert "(Success)" in film.stderr, film.stderr
        settled(peer, 1, State.FORWARDED)
        settled(peer, 3, State.REFUSED)
        assert peer.stop() == 0
    ledger = Ledger(sqlite_url(peer.folder / "state" / "ledger.sqlite"))
    refused = ledger.entries(state=State.REFUSED)
    ledger.close()
    assert {entry.reason for entry in refused} == {"sop-class"}
    assert {entry.instance.sop_class for entry in refused} == {ds.SOPClassUID for ds in (*others, video)}


def test_a_kill_between_any_two_steps_loses_nothing_and_sends_nothing_twice(tmp_path: Path) -> None:
    with Archive() as archive:
        wish = tmp_path / "wish"
        peer = Gateway(tmp_path / "gateway", archive.port, environ={"STAND_IN_KILL": str(wish)})
        files: list[Path] = []
        declined: list[Path] = []
        try:
            for number, place in enumerate(PLACES):
                more = photographs(tmp_path / str(number), 2)
                files += more
                wish.unlink(missing_ok=True)
                peer.start()
                wish.write_text(place, encoding="utf-8")
                if storescu(peer.port, more).returncode != 0:
                    declined += more
                assert peer.process is not None
                assert peer.process.wait(DEADLINE_S) == -signal.SIGKILL, place
                peer.reader.join(DEADLINE_S)
            wish.unlink()
            peer.start()
            assert storescu(peer.port, declined).returncode == 0
            settled(peer, len(files), State.FORWARDED)
            assert peer.stop() == 0
        finally:
            if peer.process is not None and peer.process.poll() is None:
                peer.kill()
        assert sorted(archive.stored) == uids(files)
        assert peer.run("audit", "verify").returncode == 0
    # Each sender may have one object under way that the archive has and no row says so: it is offered again.
    assert sum(archive.stored.values()) <= len(files) + SENDERS * len(PLACES)
    assert 0 < len(declined) < len(files)


def test_a_kill_while_objects_are_received_loses_none_that_was_acknowledged(tmp_path: Path) -> None:
    with Archive() as archive:
        peer = Gateway(tmp_path / "gateway", archive.port)
        try:
            peer.start()
            files = photographs(tmp_path / "many", 40)
            command = [
                find_program("storescu"),
                "-v",
                "-aet",
                "PACS",
                "-aec",
                "ANOSKIN",
                "127.0.0.1",
                str(peer.port),
            ]
            with (tmp_path / "sender.log").open("w", encoding="utf-8") as out:
                sender = subprocess.Popen([*command, *map(str, files)], stdout=out, stderr=out)
                for _ in range(10):
                    peer.wait_for("instance.received")
                peer.kill()
                sender.wait(60)
            said = (tmp_path / "sender.log").read_text(encoding="utf-8")
            acknowledged = said.count("Received Store Response (Success)")
            assert 9 <= acknowledged < len(files)
            peer.start()
            assert storescu(peer.port, files).returncode == 0
            settled(peer, len(files), State.FORWARDED)
        finally:
            peer.kill()
    assert sorted(archive.stored) == uids(files)
    assert set(archive.stored.values()) == {1}


def test_the_same_object_again_is_acknowledged_and_sent_once(tmp_path: Path) -> None:
    with Archive() as archive, gateway(tmp_path / "gateway", archive.port) as peer:
        files = photographs(tmp_path, 1)
        for _ in range(2):
            assert storescu(peer.port, files).returncode == 0
            settled(peer, 1, State.FORWARDED)
        peer.wait_for("instance.repeated")
        other = photograph(skin(seed=9), sop_instance=files[0].stem)
        assert storescu(peer.port, [save(other, tmp_path / "other.dcm")]).returncode == 0
        settled(peer, 1, State.HELD)
        (held,) = json.loads(peer.run("held", "--json").stdout)
        assert held["reason"] == "conflict"
        refused = peer.run("retry", "--held", "conflict")
        assert refused.returncode == 1
        assert "already on its way" in refused.stderr
    assert archive.asked.total() == 1


def test_an_archive_that_is_away_delays_and_loses_nothing(tmp_path: Path) -> None:
    port = free_port()
    with gateway(tmp_path / "gateway", port) as peer:
        files = photographs(tmp_path / "a", 2)
        assert storescu(peer.port, files).returncode == 0
        peer.wait_for("arrival.postponed")
        with Archive(port) as archive:
            late = photographs(tmp_path / "b", 2)
            assert storescu(peer.port, late).returncode == 0
            settled(peer, 4, State.FORWARDED)
        assert sorted(archive.stored) == uids(files + late)
        assert set(archive.stored.values()) == {1}


def test_two_services_never_work_in_the_same_folders(tmp_path: Path) -> None:
    with gateway(tmp_path / "gateway", free_port()) as peer:
        second = peer.run("serve")
        assert second.returncode == 2
        assert second.stderr.count("\n") == 1
        assert "Another gateway serve works in" in second.stderr
        peer.kill()
        peer.start()


def test_a_port_in_use_ends_the_service_although_work_is_waiting(tmp_path: Path) -> None:
    with gateway(tmp_path / "gateway", free_port()) as peer:
        assert storescu(peer.port, photographs(tmp_path / "a", 3)).returncode == 0
        peer.wait_for("instance.cleared")
        peer.kill()
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            again = Gateway(peer.folder, peer.archive_port, environ={"ANOSKIN_LISTENER_PORT": str(port)}).run(
                "serve"
            )
        assert again.returncode == 2
        assert f"cannot listen on 127.0.0.1:{port}" in again.stderr


def test_what_is_ready_does_not_wait_for_an_object_that_never_is(tmp_path: Path) -> None:
    study = generate_uid()
    with (
        Archive() as archive,
        gateway(
            tmp_path / "gateway", archive.port, environ={"STAND_IN_READY": str(tmp_path / "never")}
        ) as peer,
    ):
        stuck = photographs(tmp_path / "stuck", 1, description="postpone", study=study)
        ready = photographs(tmp_path / "ready", 2, study=study)
        assert storescu(peer.port, stuck + ready).returncode == 0
        settled(peer, 2, State.FORWARDED)
        assert peer.counts()["received"] == 1
    assert sorted(archive.stored) == uids(ready)


def test_a_killed_gateway_goes_on_waiting_for_an_archive_that_is_away(tmp_path: Path) -> None:
    port = free_port()
    with gateway(tmp_path / "gateway", port) as peer:
        files = photographs(tmp_path / "a", 2)
        assert storescu(peer.port, files).returncode == 0
        peer.wait_for("arrival.postponed")
        peer.kill()
        peer.start()
        with Archive(port) as archive:
            settled(peer, 2, State.FORWARDED)
        assert sorted(archive.stored) == uids(files)


def test_one_object_the_archive_refuses_is_held_and_keeps_no_other_back(tmp_path: Path) -> None:
    files = photographs(tmp_path / "a", 3)
    bad = pseudonym(files[0].stem)
    with (
        Archive(status=lambda uid: 0xA900 if uid == bad else 0x0000) as archive,
        gateway(tmp_path / "gateway", archive.port) as peer,
    ):
        assert storescu(peer.port, files).returncode == 0
        settled(peer, 2, State.FORWARDED)
        settled(peer, 1, State.HELD)
        (held,) = json.loads(peer.run("held", "--json").stdout)
        assert held["reason"] == "archive-refused"
        assert "0xA900" in held["detail"]
        archive.status = lambda _uid: 0x0000
        assert peer.run("retry", "--held", "archive-refused").returncode == 0
        settled(peer, 3, State.FORWARDED)
    assert archive.asked[bad] == 4
    assert archive.stored[bad] == 1


def test_warnings_and_duplicates_count_as_stored_and_a_full_archive_is_asked_again(tmp_path: Path) -> None:
    files = photographs(tmp_path / "a", 3)
    warned, known, full = (pseudonym(file.stem) for file in files)
    answers = {warned: [0xB000], known: [0x0111], full: [0xA700, 0xA701, 0xA700, 0xA700, 0x0000]}
    with (
        Archive(status=lambda uid: answers[uid].pop(0)) as archive,
        gateway(tmp_path / "gw", archive.port) as peer,
    ):
        assert storescu(peer.port, files).returncode == 0
        settled(peer, 3, State.FORWARDED)
    assert archive.asked == {warned: 1, known: 1, full: 5}


def test_an_arrival_travels_over_one_association(tmp_path: Path) -> None:
    with Archive() as archive, gateway(tmp_path / "gateway", archive.port) as peer:
        assert storescu(peer.port, photographs(tmp_path / "a", 5)).returncode == 0
        settled(peer, 5, State.FORWARDED)
    assert archive.associations == 1


def test_outcomes_of_a_treatment_settle_and_a_defect_does_not_speak(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    with (
        Archive() as archive,
        gateway(tmp_path / "gateway", archive.port, environ={"STAND_IN_READY": str(ready)}) as peer,
    ):
        wishes = ("hold", "refuse", "defect", "postpone", "Face")
        files = {wish: photographs(tmp_path / wish, 1, description=wish)[0] for wish in wishes}
        assert storescu(peer.port, list(files.values())).returncode == 0
        settled(peer, 1, State.FORWARDED)
        settled(peer, 2, State.HELD)
        settled(peer, 1, State.REFUSED)
        peer.wait_for("arrival.postponed")
        assert peer.counts()["received"] == 1
        ready.touch()
        settled(peer, 2, State.FORWARDED)
        held = peer.run("held")
        assert "defect" in held.stdout
        assert "similarity" in held.stdout
        everything = held.stdout + peer.run("held", "--json").stdout
    assert archive.stored.keys() == {pseudonym(files[wish].stem) for wish in ("postpone", "Face")}
    everything += (peer.folder / "log.jsonl").read_text(encoding="utf-8")
    everything += (peer.folder / "state" / "audit.jsonl").read_text(encoding="utf-8")
    assert "Zweifelsfrei" not in everything
    assert "RuntimeError" in everything


def test_an_object_that_kills_the_process_is_held_after_a_few_starts(tmp_path: Path) -> None:
    with Archive() as archive:
        peer = Gateway(tmp_path / "gateway", archive.port)
        try:
            peer.start()
            files = photographs(tmp_path / "kill", 1, description="kill")
            assert storescu(peer.port, files).returncode == 0
            for _ in range(3):
                assert peer.process is not None
                peer.process.wait(60)
                peer.start()
            settled(peer, 1, State.HELD)
            (held,) = json.loads(peer.run("held", "--json").stdout)
            assert held["reason"] == "defect"
            good = photographs(tmp_path / "good", 1)
            assert storescu(peer.port, good).returncode == 0
            settled(peer, 1, State.FORWARDED)
        finally:
            peer.kill()
        assert sorted(archive.stored) == uids(good)


def test_a_stop_in_the_middle_ends_cleanly_and_the_rest_goes_on_later(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    environ = {"STAND_IN_READY": str(ready)}
    with Archive() as archive, gateway(tmp_path / "gateway", archive.port, environ=environ) as peer:
        files = photographs(tmp_path / "a", 25, description="dawdle")  # 25 s, were it not stopped
        assert storescu(peer.port, files).returncode == 0
        peer.wait_for("instance.cleared")
        assert peer.stop() == 0
        counts = peer.counts()
        assert sum(counts.values()) == 25
        assert counts["received"] > 0, "the stop came too late to be in the middle"
        ready.touch()
        peer.start()
        settled(peer, 25, State.FORWARDED)
        assert sorted(archive.asked) == uids(files)
        assert set(archive.asked.values()) == {1}


def test_arrivals_go_on_when_the_workflows_are_lost(tmp_path: Path) -> None:
    port = free_port()
    with gateway(tmp_path / "gateway", port) as peer:
        files = photographs(tmp_path / "a", 2)
        assert storescu(peer.port, files).returncode == 0
        peer.wait_for("arrival.postponed")
        assert peer.stop() == 0
        for file in (peer.folder / "state").glob("workflows.sqlite*"):
            file.unlink()
        with Archive(port) as archive:
            peer.start()
            settled(peer, 2, State.FORWARDED)
        assert sorted(archive.stored) == uids(files)
