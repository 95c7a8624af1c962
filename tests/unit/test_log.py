"""The log: catalogued events with their fields, and nothing a library would let slip."""

import io
import json
import logging
import re
import threading
import warnings
from pathlib import Path

import pytest

from gateway import log

SOURCES = Path(__file__).resolve().parents[2] / "gateway"


@pytest.fixture
def stream(restored_logging: None) -> io.StringIO:
    return io.StringIO()


def records(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_catalogued_event_is_written_with_its_fields(stream: io.StringIO) -> None:
    log.configure("json", "info", stream=stream)
    log.get().info("instance.held", instance="abc", reason="similarity", seconds=0.5)
    (record,) = records(stream)
    assert record.pop("timestamp")
    assert record == {
        "event": "instance.held",
        "level": "info",
        "instance": "abc",
        "reason": "similarity",
        "seconds": 0.5,
    }


def test_a_thread_that_dies_is_told_without_what_it_said(stream: io.StringIO) -> None:
    def dies() -> None:
        raise RuntimeError("Zweifelsfrei^Adelheid")

    log.configure("json", "info", stream=stream)
    thread = threading.Thread(target=dies)
    thread.start()
    thread.join()
    (record,) = records(stream)
    assert (record["event"], record["origin"]) == ("library", "RuntimeError")


def test_a_field_outside_the_catalogue_is_dropped(stream: io.StringIO) -> None:
    log.configure("json", "info", stream=stream)
    log.get().info("instance.held", instance="abc", patient_name="Zweifelsfrei")
    log.get().info("patient Zweifelsfrei arrived", name="Zweifelsfrei")
    assert "Zweifelsfrei" not in stream.getvalue()
    assert [record["event"] for record in records(stream)] == ["instance.held", "library"]


def test_a_field_outside_the_catalogue_raises_where_strict(stream: io.StringIO) -> None:
    log.configure("json", "info", stream=stream, strict=True)
    with pytest.raises(log.UnlistedField, match="patient_name"):
        log.get().info("instance.held", patient_name="Zweifelsfrei")
    with pytest.raises(log.UnlistedField):
        log.get().info("something else")


def test_what_libraries_say_is_reduced_to_its_origin(stream: io.StringIO) -> None:
    log.configure("json", "info", stream=stream)
    logging.getLogger("pydicom").warning("Invalid value for VR UI: 'Zweifelsfrei'")
    logging.getLogger("pynetdicom.dimse").error("Zweifelsfrei")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("Invalid value 'Zweifelsfrei'", UserWarning, stacklevel=1)
    assert "Zweifelsfrei" not in stream.getvalue()
    assert [record["origin"] for record in records(stream)] == ["pydicom", "pynetdicom.dimse", "py.warnings"]


def test_levels_below_the_threshold_are_not_written(stream: io.StringIO) -> None:
    log.configure("console", "warning", stream=stream)
    log.get().info("service.stopping")
    assert stream.getvalue() == ""
    log.get().warning("service.stopping")
    assert "service.stopping" in stream.getvalue()


def test_a_log_nobody_reads_any_more_stops_nothing(stream: io.StringIO) -> None:
    log.configure("json", "info", stream=stream)
    stream.close()
    log.get().info("service.stopping")
    logging.getLogger("pynetdicom").error("something")


def test_every_event_in_the_code_is_in_the_catalogue_and_the_other_way_round() -> None:
    source = "".join(
        file.read_text(encoding="utf-8") for file in SOURCES.glob("*.py") if file.name != "log.py"
    )
    used = set(re.findall(r"log\.get\(\)\s*\.\w+\(\s*\"([a-z.]+)\"", source))
    named = {name for name in log.EVENTS if f'"{name}"' in source}
    assert used <= log.EVENTS.keys()
    assert log.EVENTS.keys() - named == {"library"}
