"""What the archive's answers mean, and how objects are grouped."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.forward import CONTEXTS, Answer, Shipment, backoff_s, batches, meaning
from gateway.schema import InstanceId
from gateway.settings import Archive
from gateway.stages import rotated


def shipment(number: int, sop_class: str = "1.2", syntax: str = "1.3") -> Shipment:
    return Shipment(InstanceId(f"{number:032x}"), Path("x"), "a" * 64, sop_class, syntax)


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (0x0000, Answer.STORED),
        (0x0001, Answer.STORED),
        (0xB000, Answer.STORED),
        (0xB006, Answer.STORED),
        (0xB007, Answer.STORED),
        (0x0111, Answer.STORED),
        (0xA700, Answer.LATER),
        (0xA7FF, Answer.LATER),
        (0x0110, Answer.LATER),
        (0xA900, Answer.REFUSED),
        (0xC000, Answer.REFUSED),
        (0xCFFF, Answer.REFUSED),
        (0x0122, Answer.REFUSED),
        (0x0124, Answer.REFUSED),
        (0xFE00, Answer.REFUSED),
        (0xFF00, Answer.REFUSED),
    ],
)
def test_a_status_means_what_the_standard_says(status: int, answer: Answer) -> None:
    assert meaning(status) is answer


@given(st.integers(0, 0xFFFF))
def test_only_success_warning_and_duplicate_count_as_stored(status: int) -> None:
    stored = status in (0x0000, 0x0001, 0x0111) or 0xB000 <= status <= 0xBFFF
    assert (meaning(status) is Answer.STORED) == stored


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=600))
def test_a_batch_never_needs_more_contexts_than_an_association_has(kinds: list[tuple[int, int]]) -> None:
    shipments = [shipment(number, f"1.{a}", f"2.{b}") for number, (a, b) in enumerate(kinds)]
    made = batches(shipments)
    assert [found for batch in made for found in batch] == shipments
    assert all(len({(s.sop_class, s.transfer_syntax) for s in batch}) <= CONTEXTS for batch in made)
    assert all(made)


def test_one_kind_of_object_is_one_batch() -> None:
    assert len(batches([shipment(number) for number in range(1000)])) == 1


@given(st.integers(0, 10**6))
def test_back_off_grows_up_to_its_limit_and_never_beyond(attempt: int) -> None:
    archive = replace(Archive(), initial_s=5.0, factor=2.0, max_s=900.0)
    assert 5.0 <= backoff_s(attempt, archive) <= backoff_s(attempt + 1, archive) <= 900.0
    assert backoff_s(3, archive) == 40.0


@given(st.lists(st.integers()), st.integers(0, 1000))
def test_rotation_keeps_every_item(items: list[int], by: int) -> None:
    turned = rotated(items, by)
    assert sorted(turned) == sorted(items)
    assert not items or turned[0] == items[by % len(items)]
