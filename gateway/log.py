"""The gateway's own voice: a catalogue of events and the fields each may carry.

Only catalogued events with their catalogued fields are written; a field that is not on the list is dropped,
or raises where ``strict`` is set, as the tests do. Fields hold pseudonymous ids, counts, codes and durations,
never the value of a DICOM element. What libraries log may quote such values, so only its origin is kept.
"""

import contextlib
import logging
import sys
import threading
from collections.abc import Mapping
from typing import Any, Final, TextIO, cast

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, WrappedLogger

EVENTS: Final[Mapping[str, frozenset[str]]] = {
    name: frozenset(names.split())
    for name, names in {
        "service.ready": "host port ae_title pid",
        "service.stopping": "",
        "service.stopped": "seconds",
        "association.opened": "peer address",
        "association.rejected": "peer address reason",
        "association.closed": "peer received",
        "instance.received": "instance peer size_bytes seconds",
        "instance.repeated": "instance peer",
        "instance.recovered": "instance",
        "instance.declined": "peer status reason",
        "instance.cleared": "instance arrival seconds attempts",
        "instance.held": "instance arrival reason seconds",
        "instance.refused": "instance arrival reason seconds",
        "instance.postponed": "instance arrival reason",
        "instance.forwarded": "instance arrival pseudonym status",
        "instance.defect": "instance arrival error",
        "arrival.gathered": "arrival instances",
        "arrival.postponed": "arrival stage reason attempt seconds",
        "arrival.done": "arrival instances",
        "forward.failed": "arrival instance status",
        "models.away": "endpoint reason",
        "models.back": "endpoint",
        "models.revived": "endpoint model seconds",
        "retention.removed": "originals cleans strays",
        "spool.unreadable": "originals",
        "schedule.failed": "job error",
        "audit.head": "seq digest",
        "library": "origin severity",
    }.items()
}
ALWAYS: Final = frozenset({"event", "level", "timestamp"})


class UnlistedField(Exception):
    """An event or a field that is not in the catalogue was about to be logged."""


class AllowList:
    """Lets catalogued events and fields through and nothing else.

    Parameters
    ----------
    strict
        Raise instead of dropping.
    """

    def __init__(self, *, strict: bool = False) -> None:
        self._strict = strict

    def __call__(self, _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        """The event with only what its catalogue entry allows.

        Raises
        ------
        UnlistedField
            Something else was there and ``strict`` is set.
        """
        name = str(event.get("event"))
        allowed = EVENTS.get(name)
        if allowed is None:
            if self._strict:
                raise UnlistedField("an event outside the catalogue")
            return {"event": "library", "origin": "unlisted", "level": event.get("level", "info")}
        extra = event.keys() - allowed - ALWAYS
        if extra and self._strict:
            raise UnlistedField(f"{name} does not carry {', '.join(sorted(extra))}")
        return {field: value for field, value in event.items() if field not in extra}


class _Origin(logging.Handler):
    """Tells that a library had something to say, and which, but not what."""

    def emit(self, record: logging.LogRecord) -> None:
        get().log(
            max(record.levelno, logging.DEBUG), "library", origin=record.name, severity=record.levelname
        )


class _Unfailing:
    """A stream whose reader may go away: a line that cannot be written is lost, and work goes on."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


def configure(form: str, level: str, *, stream: TextIO | None = None, strict: bool = False) -> None:
    """Set up logging for this process.

    Parameters
    ----------
    form
        ``"json"`` or ``"console"``.
    level
        Least important level shown: debug, info, warning or error.
    stream
        Where lines go; standard error where not given.
    strict
        Raise `UnlistedField` instead of dropping.
    """
    threshold = cast(int, getattr(logging, level.upper()))
    out = sys.stderr if stream is None else stream
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if form == "json"
        else structlog.dev.ConsoleRenderer(colors=out.isatty(), sort_keys=False)
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            AllowList(strict=strict),
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(file=cast(TextIO, _Unfailing(out))),
        cache_logger_on_first_use=False,
    )
    _quieten(max(threshold, logging.WARNING))
    threading.excepthook = _thread_ended


def _thread_ended(ended: threading.ExceptHookArgs) -> None:
    """A thread died of an error, which is told by its class alone: its message may quote a value."""
    get().error("library", origin=ended.exc_type.__name__, severity="ERROR")


def _quieten(threshold: int) -> None:
    """Send every library's records and warnings through `_Origin`, and nowhere else."""
    root = logging.getLogger()
    root.handlers[:] = [_Origin()]
    root.setLevel(threshold)
    for name in ("dbos", "pynetdicom", "pydicom", "apscheduler", "py.warnings"):
        library = logging.getLogger(name)
        # A handler of its own is what keeps a library from installing one that prints.
        library.handlers[:] = [_Origin()]
        library.propagate = False
        # A job that is still running when its time comes again is no event: it runs the next time.
        library.setLevel(max(threshold, logging.ERROR) if name == "apscheduler" else threshold)
    logging.captureWarnings(True)


def get() -> FilteringBoundLogger:
    """The logger; call it as ``log.get().info("instance.cleared", instance=…)``."""
    return cast(FilteringBoundLogger, structlog.get_logger())
