"""The audit trail: what was written stays provable."""

import json
import threading
from pathlib import Path

import pytest

from gateway.audit import Head, Tampered, Trail
from gateway.errors import Postponed


@pytest.fixture
def trail(tmp_path: Path) -> Trail:
    made = Trail(tmp_path / "audit.jsonl")
    for number in range(5):
        made.append("service", "instance.held", {"instance": f"{number:032x}", "reason": "similarity"})
    return made


def lines(folder: Path) -> list[str]:
    return (folder / "audit.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)


def rewrite(folder: Path, text: list[str]) -> None:
    (folder / "audit.jsonl").write_text("".join(text), encoding="utf-8")


def test_an_untouched_trail_verifies_to_its_head(trail: Trail) -> None:
    assert trail.verify() == trail.head()
    assert trail.verify().seq == 5


def test_no_trail_yet_is_an_empty_chain(tmp_path: Path) -> None:
    assert Trail(tmp_path / "none.jsonl").verify() == Head()


def test_a_changed_value_is_found(trail: Trail, tmp_path: Path) -> None:
    text = lines(tmp_path)
    text[2] = text[2].replace("similarity", "text")
    rewrite(tmp_path, text)
    with pytest.raises(Tampered, match="record 3"):
        trail.verify()


def test_a_changed_value_with_a_recomputed_digest_breaks_the_next_record(
    trail: Trail, tmp_path: Path
) -> None:
    elsewhere = Trail(tmp_path / "forged.jsonl")
    for number in range(5):
        reason = "text" if number == 2 else "similarity"
        elsewhere.append("service", "instance.held", {"instance": f"{number:032x}", "reason": reason})
    forged = (tmp_path / "forged.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    text = lines(tmp_path)
    rewrite(tmp_path, [*text[:2], forged[2], *text[3:]])
    with pytest.raises(Tampered):
        trail.verify()


@pytest.mark.parametrize("change", ["remove", "repeat", "swap", "blank"])
def test_removed_repeated_swapped_or_blanked_records_are_found(
    trail: Trail, tmp_path: Path, change: str
) -> None:
    text = lines(tmp_path)
    if change == "remove":
        del text[1]
    elif change == "repeat":
        text.insert(1, text[1])
    elif change == "swap":
        text[1], text[2] = text[2], text[1]
    else:
        text[1] = "\n"
    rewrite(tmp_path, text)
    with pytest.raises(Tampered):
        trail.verify()


def test_a_cut_end_shows_against_the_head_that_was_logged(trail: Trail, tmp_path: Path) -> None:
    logged = trail.head()
    rewrite(tmp_path, lines(tmp_path)[:-1])
    assert trail.verify() != logged


def test_a_record_torn_by_a_crash_is_dropped_and_the_chain_goes_on(trail: Trail, tmp_path: Path) -> None:
    with (tmp_path / "audit.jsonl").open("a", encoding="utf-8") as stream:
        stream.write('{"seq":6,"at":"20')
    assert trail.verify().seq == 5
    head = trail.append("operator:ada", "instance.retried")
    assert head.seq == 6
    assert trail.verify() == head
    assert json.loads(lines(tmp_path)[-1])["actor"] == "operator:ada"


def test_a_trail_that_ends_with_no_record_postpones_what_would_follow(trail: Trail, tmp_path: Path) -> None:
    with (tmp_path / "audit.jsonl").open("a", encoding="utf-8") as stream:
        stream.write("no record\n")
    with pytest.raises(Postponed, match="audit"):
        trail.append("service", "instance.cleared")


def test_many_writers_make_one_chain(tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    writers = [
        threading.Thread(target=lambda: [Trail(file).append("service", "test") for _ in range(10)])
        for _ in range(4)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert Trail(file).verify().seq == 40


def test_the_trail_belongs_to_its_owner_alone(trail: Trail, tmp_path: Path) -> None:
    assert (tmp_path / "audit.jsonl").stat().st_mode & 0o777 == 0o600
