"""States of trainings: whole or told, and never taken up by another training."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

from inference.data import DataError
from inference.progress import content_of, deciding, listed, load_state, save_state


@dataclass(frozen=True)
class Recipe:
    rate: float = 0.5
    steps: int = 10
    sizes: tuple[int, ...] = (32, 64)


@dataclass(frozen=True)
class Row:
    file: Path
    line: int = field(compare=False)


def test_a_state_is_taken_up_by_the_training_that_made_it_for_more_steps_too(tmp_path: Path) -> None:
    state = {"step": 3, "net": torch.ones(2), "decided": deciding("inpaint", Recipe(), data="sha256:1")}
    save_state(tmp_path / "out" / "state.pt", state)
    taken = load_state(tmp_path / "out" / "state.pt", deciding("inpaint", Recipe(steps=20), data="sha256:1"))
    assert taken is not None
    assert taken["step"] == 3
    assert load_state(tmp_path / "none.pt", deciding("inpaint")) is None


@pytest.mark.parametrize(
    ("decided", "told"),
    [
        (deciding("preferences", Recipe(), data="sha256:1"), r"\(kind inpaint, not preferences\)"),
        (deciding("inpaint", Recipe(rate=0.0), data="sha256:1"), r"\(rate 0.5, not 0.0\)"),
        (deciding("inpaint", Recipe(sizes=(32,)), data="sha256:1"), r"\(sizes \(32, 64\), not \(32,\)\)"),
        (deciding("inpaint", Recipe(), data="sha256:2"), r"\(other data\)"),
        (deciding("inpaint", Recipe()), r"\(other data\)"),
    ],
)
def test_another_training_is_told_by_the_first_difference(
    tmp_path: Path, decided: dict[str, object], told: str
) -> None:
    save_state(tmp_path / "state.pt", {"decided": deciding("inpaint", Recipe(), data="sha256:1")})
    with pytest.raises(DataError, match=f"holds another training {told}; name another --out"):
        load_state(tmp_path / "state.pt", decided)


def test_a_state_that_does_not_tell_its_training_is_refused(tmp_path: Path) -> None:
    save_state(tmp_path / "state.pt", {"step": 3})
    with pytest.raises(DataError, match="does not tell what it was trained with; name another --out"):
        load_state(tmp_path / "state.pt", deciding("inpaint"))


def test_a_state_cut_short_is_damaged(tmp_path: Path) -> None:
    file = tmp_path / "state.pt"
    save_state(file, {"net": torch.ones(100)})
    whole = file.read_bytes()
    for size in (0, 10, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:size])
        with pytest.raises(DataError, match=r"state\.pt is damaged; remove it"):
            load_state(file)


def test_a_full_disk_leaves_the_old_state(tmp_path: Path) -> None:
    save_state(tmp_path / "state.pt", {"step": 1})
    (tmp_path / "state.new").symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"state\.pt cannot be written; is the disk full\?"):
        save_state(tmp_path / "state.pt", {"net": torch.ones(100_000)})
    assert load_state(tmp_path / "state.pt") == {"step": 1}
    save_state(tmp_path / "state.pt", {"step": 2})
    assert load_state(tmp_path / "state.pt") == {"step": 2}


def test_digests_follow_what_is_learnt_from_wherever_it_lies(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name / "unet").mkdir(parents=True)
        (tmp_path / name / "unet" / "weights").write_bytes(b"abc")
    one, two = tmp_path / "one", tmp_path / "two"
    rows = {folder: [(folder / "unet" / "weights", "acne")] for folder in (one, two)}
    assert content_of(one) == content_of(two)
    assert listed(rows[one], one) == listed(rows[two], two) != listed([(rows[two][0][0], "eczema")], two)
    assert listed([Row(rows[two][0][0], 1)], two) == listed([Row(rows[two][0][0], 2)], two)
    before = listed(rows[two], two)
    (two / "unet" / "weights").write_bytes(b"abcd")
    assert content_of(one) != content_of(two)
    assert listed(rows[two], two) != before
