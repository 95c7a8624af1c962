"""The file an object grows in: it knows its digest, tells what it could not keep, and leaves nothing behind."""

import gc
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from photographs import photograph, save, skin

from gateway import growing, header
from gateway.errors import Postponed
from gateway.growing import Growing
from gateway.header import Unparsable


def anything() -> None:
    """There is room."""


def grown(folder: Path, data: bytes, *cuts: int, limit: int = 1 << 30) -> Growing:
    file = Growing(folder, limit, anything)
    at = 0
    for cut in (*sorted(cuts), len(data)):
        assert file.write(data[at:cut]) == cut - at
        at = cut
    return file


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, 2000), max_size=6))
def test_its_digest_is_that_of_the_data_set_however_it_came(tmp_path: Path, cuts: list[int]) -> None:
    sent = tmp_path / "sent.dcm"
    if not sent.exists():
        save(photograph(skin(16, 16)), sent)
    file = grown(tmp_path, sent.read_bytes(), *cuts)
    file.check()
    assert file.path.read_bytes() == sent.read_bytes()
    assert file.sha256 == header.digest(sent)
    file.close()


def test_a_disk_that_fills_up_gets_its_space_back_and_the_sender_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = grown(tmp_path, bytes(1000))

    def full(_descriptor: int, _data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        assert file.write(bytes(500)) == 500
    assert file.write(bytes(500)) == 500
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(Postponed, match="No space left"):
        file.check()


def test_where_no_file_can_be_made_the_sender_is_told(tmp_path: Path) -> None:
    file = grown(tmp_path / "missing", bytes(1000))
    with pytest.raises(Postponed):
        file.check()


def test_room_is_asked_for_first_and_again_as_it_grows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(growing, "STRIDE_BYTES", 1000)
    asked = []

    def room() -> None:
        asked.append(None)
        if len(asked) == 3:
            raise Postponed("disk-reserve", "a sentence")

    file = Growing(tmp_path, 1 << 30, room)
    for _ in range(10):
        file.write(bytes(600))
    with pytest.raises(Postponed, match="disk-reserve"):
        file.check()
    assert len(asked) == 3
    assert list(tmp_path.iterdir()) == []


def test_what_is_larger_than_accepted_is_not_kept_to_its_end(tmp_path: Path) -> None:
    save(photograph(skin(64, 64)), tmp_path / "sent.dcm")
    data = (tmp_path / "sent.dcm").read_bytes()
    file = grown(tmp_path, data, 4000, limit=3000)
    assert not file.path.exists()
    with pytest.raises(Unparsable, match="max_object_mb"):
        file.check()


def test_one_that_nobody_holds_any_more_leaves_no_file(tmp_path: Path) -> None:
    file = grown(tmp_path, bytes(1000))
    assert len(list(tmp_path.iterdir())) == 1
    del file
    gc.collect()
    assert list(tmp_path.iterdir()) == []
