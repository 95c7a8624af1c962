"""The spool: durable, repeatable, and full before the disk is."""

import hashlib
import os
from pathlib import Path

import pytest

from gateway.errors import Misconfigured, Postponed
from gateway.spool import Spool

DIGEST = hashlib.sha256(b"photograph").hexdigest()


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool", 0)


def incoming(spool: Spool, content: bytes = b"photograph") -> Path:
    file = spool.incoming / "tmp.dcm"
    file.write_bytes(content)
    return file


def test_an_original_is_moved_and_found_by_its_digest(spool: Spool) -> None:
    file = incoming(spool)
    kept = spool.keep_original(file, DIGEST)
    assert kept == spool.original(DIGEST)
    assert kept.read_bytes() == b"photograph"


def test_keeping_the_same_thing_twice_is_keeping_it_once(spool: Spool) -> None:
    assert spool.keep_clean(b"photograph") == spool.keep_clean(b"photograph") == DIGEST
    assert [path.name for path in spool.clean(DIGEST).parent.iterdir()] == [f"{DIGEST}.dcm"]


def test_below_its_reserve_nothing_is_accepted(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", 1 << 62)
    with pytest.raises(Postponed) as caught:
        spool.check_reserve()
    assert caught.value.reason == "disk-reserve"
    with pytest.raises(Postponed):
        spool.keep_clean(b"photograph")
    assert not spool.clean(DIGEST).exists()


def test_file_and_folder_are_synced_before_the_call_returns(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    spool.keep_original(incoming(spool), DIGEST)
    assert {Path(path).name for path in synced} == {"tmp.dcm", DIGEST[0]}
    synced.clear()
    digest = spool.keep_clean(b"other")
    assert synced[-1] == str(spool.clean(digest).parent)
    assert len(synced) == 2


def test_a_disk_that_fails_postpones_and_leaves_no_part(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fsync(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(Postponed, match="No space left"):
        spool.keep_clean(b"photograph")
    assert list(spool.clean(DIGEST).parent.iterdir()) == []
    with pytest.raises(Postponed):
        spool.keep_original(incoming(spool), DIGEST)
    # Its bytes may be gone although they can still be read: a repetition must bring them anew.
    assert not spool.original(DIGEST).exists()


def test_what_broken_associations_left_is_swept_by_age(spool: Spool) -> None:
    incoming(spool)
    assert spool.sweep_incoming(3600) == 0
    assert spool.sweep_incoming(0) == 1
    assert list(spool.incoming.iterdir()) == []


@pytest.mark.parametrize("digest", ["../../etc/passwd", "A" * 64, "a" * 63, ""])
def test_only_a_digest_names_a_place(spool: Spool, digest: str) -> None:
    with pytest.raises(ValueError, match="not a place"):
        spool.original(digest)


def test_removing_is_told_apart_from_not_being_there(spool: Spool) -> None:
    digest = spool.keep_clean(b"photograph")
    assert spool.remove("clean", digest)
    assert not spool.remove("clean", digest)


def test_a_folder_that_cannot_be_made_is_a_wrong_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(Misconfigured, match=r"\[spool\] folder"):
        Spool(tmp_path / "file" / "spool", 0)


def test_the_spool_belongs_to_its_owner_alone(spool: Spool, tmp_path: Path) -> None:
    assert (tmp_path / "spool").stat().st_mode & 0o777 == 0o700


def test_an_acknowledged_copy_is_not_replaced_by_another_of_the_same_content(spool: Spool) -> None:
    spool.keep_original(incoming(spool), DIGEST)
    first = spool.original(DIGEST).stat().st_ino
    spool.keep_original(incoming(spool), DIGEST)
    assert spool.original(DIGEST).stat().st_ino == first


def test_what_a_crash_left_half_written_is_replaced(spool: Spool) -> None:
    spool.original(DIGEST).write_bytes(b"photo")
    spool.keep_original(incoming(spool), DIGEST)
    assert spool.original(DIGEST).read_bytes() == b"photograph"
    assert list(spool.originals()) == [DIGEST]
