"""Processes that work on tasks: what kills one of them costs its own task alone."""

import pytest
from tasks import misconfigured, obedient, stillborn

from gateway.errors import GatewayError, Misconfigured
from gateway.workers import Lost, each


@pytest.mark.parametrize("jobs", [1, 2])
def test_results_come_in_the_order_of_their_tasks(jobs: int) -> None:
    tasks = list("abcdefg")
    assert list(each(tasks, obedient, jobs, 60.0)) == list("ABCDEFG")


def test_a_task_that_kills_its_process_or_never_ends_costs_itself_alone() -> None:
    tasks = ["one", "die", "two", "stay", "three"]
    found = list(each(tasks, obedient, 2, 5.0))
    assert found == ["ONE", Lost(late=False), "TWO", Lost(late=True), "THREE"]


def test_nothing_to_do_starts_nothing() -> None:
    assert list(each([], stillborn, 2, 1.0)) == []


def test_what_is_wrong_with_the_configuration_reaches_who_asked() -> None:
    with pytest.raises(Misconfigured, match="key is missing"):
        list(each(["one"], misconfigured, 2, 60.0))


def test_a_process_that_cannot_begin_is_not_started_for_ever() -> None:
    with pytest.raises(GatewayError, match="before it could begin"):
        list(each(["one"], stillborn, 1, 60.0))
