"""The gates hold whenever evidence is missing, not a number, or against the object."""

import math
from dataclasses import fields, replace

import pytest

from gateway import release
from gateway.errors import Held
from gateway.instance import Evidence

CLEAN = Evidence(
    frames=1,
    faces=1,
    features=True,
    hidden_pixels=100,
    kept_pixels=10,
    uncovered_pixels=0,
    doubtful=0,
    similarity=0.1,
    similarity_limit=0.5,
    outside_identical=True,
    kept_identical=True,
    text=0,
    residue=0,
    marker_faults=0,
    attempts=1,
)


def test_complete_and_clean_evidence_passes_every_gate():
    release.check(CLEAN)


def test_an_empty_list_of_gates_holds():
    with pytest.raises(Held) as held:
        release.check(CLEAN, [])
    assert held.value.reason == "no-gates"


GATED = ["uncovered_pixels", "doubtful", "similarity", "similarity_limit", "outside_identical", "kept_identical",
         "text", "residue", "marker_faults"]  # fmt: skip


@pytest.mark.parametrize("name", GATED)
def test_missing_evidence_holds(name):
    with pytest.raises(Held):
        release.check(replace(CLEAN, **{name: None}))


@pytest.mark.parametrize("name", [*GATED, "text"])
def test_evidence_that_is_not_a_number_holds(name):
    with pytest.raises(Held):
        release.check(replace(CLEAN, **{name: math.nan}))


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("uncovered_pixels", 1, "coverage"),
        ("doubtful", 1, "doubtful-face"),
        ("similarity", 0.5, "similarity"),
        ("similarity", 0.9, "similarity"),
        ("similarity", -3.0, "similarity"),
        ("outside_identical", False, "fidelity"),
        ("kept_identical", False, "fidelity"),
        ("text", 1, "text"),
        ("residue", 2, "residue"),
        ("marker_faults", 1, "markers"),
    ],
)
def test_evidence_against_the_object_holds_with_its_reason(name, value, reason):
    with pytest.raises(Held) as held:
        release.check(replace(CLEAN, **{name: value}))
    assert held.value.reason == reason


def test_no_face_found_passes_only_when_nothing_was_seen_or_hidden_either():
    nobody = replace(CLEAN, faces=0, features=False, hidden_pixels=0, similarity=None)
    release.check(nobody)
    for change in ({"hidden_pixels": 5}, {"features": True}, {"features": None}, {"faces": None}):
        with pytest.raises(Held) as held:
            release.check(replace(nobody, **change))
        assert held.value.reason == "unverified"


def test_evidence_without_any_measurement_holds():
    assert all(getattr(Evidence(), f.name) is None for f in fields(Evidence))
    with pytest.raises(Held):
        release.check(Evidence())
