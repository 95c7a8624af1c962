"""Who did what, when: an append-only trail in which every record carries the digest of the one before.

One JSON object a line: ``seq``, ``at`` (UTC), ``actor``, ``event``, ``facts``, ``before`` (digest of the
previous record) and ``digest`` (SHA-256 over the others). A changed, removed or inserted record breaks the chain
at that place. Cutting off the end leaves a valid chain: compare `Trail.head` with the log's (``audit.head``).
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from gateway.errors import GatewayError, Postponed

START = "0" * 64
TAIL_BYTES = 1 << 16

Fact = str | int | float | bool | None


class Tampered(GatewayError):
    """The trail is not what was written; the message says at which record."""


@dataclass(frozen=True, slots=True)
class Head:
    """The end of the trail: number and digest of its last record."""

    seq: int = 0
    digest: str = START


class Trail:
    """An audit trail in one file; several processes may append to it.

    Parameters
    ----------
    file
        Created with mode 0600 when first written.
    """

    def __init__(self, file: Path) -> None:
        self._file = file

    def append(self, actor: str, event: str, facts: Mapping[str, Fact] | None = None) -> Head:
        """Add one record; it is on disk when this returns.

        Parameters
        ----------
        actor
            ``"service"``, ``"peer:<AE title>"`` or ``"operator:<user>"``.
        event
            What was done, as ``noun.verb``.
        facts
            Pseudonymous ids, codes and counts; never a DICOM value.

        Raises
        ------
        Postponed
            The file cannot be written now, or ends with something that is no record.
        """
        try:
            with self._locked() as stream:
                head = _continue(stream)
                record: dict[str, object] = {
                    "seq": head.seq + 1,
                    "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
                    "actor": actor,
                    "event": event,
                    "facts": dict(facts or {}),
                    "before": head.digest,
                }
                record["digest"] = _digest(record)
                stream.write(_line(record))
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise Postponed("audit", f"the audit trail cannot be written ({error.strerror})") from error
        except Tampered as error:
            raise Postponed("audit", str(error)) from error
        return Head(head.seq + 1, str(record["digest"]))

    def head(self) -> Head:
        """The end of the trail, without checking what comes before.

        Raises
        ------
        Postponed
            The file cannot be read now.
        """
        try:
            with self._file.open("rb") as stream:
                return _last(stream)
        except FileNotFoundError:
            return Head()
        except OSError as error:
            raise Postponed("audit", f"the audit trail cannot be read ({error.strerror})") from error

    def verify(self) -> Head:
        """Read the whole trail and return its end; a last line that is not finished is no record, as for `append`.

        Raises
        ------
        Tampered
            A record was changed, removed, inserted or reordered.
        """
        head = Head()
        if not self._file.exists():
            return head
        with self._file.open("rb") as stream:
            for number, line in enumerate(stream, start=1):
                if not line.endswith(b"\n"):
                    break
                try:
                    record = json.loads(line)
                    found = Head(record["seq"], record["digest"])
                    sound = record["before"] == head.digest and found.digest == _digest(record)
                except (ValueError, KeyError, TypeError) as error:
                    raise Tampered(f"line {number} of the audit trail is not a record") from error
                if not (sound and found.seq == head.seq + 1 and line == _line(record)):
                    raise Tampered(f"the audit trail is broken at record {head.seq + 1}")
                head = found
        return head

    @contextmanager
    def _locked(self) -> Iterator[BinaryIO]:
        descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "r+b") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield stream


def _continue(stream: BinaryIO) -> Head:
    """The head to chain to; an unfinished last line, left by a crash before its fsync, is cut off."""
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, size - TAIL_BYTES))
    tail = stream.read()
    torn = len(tail) - (tail.rfind(b"\n") + 1)
    if torn:
        stream.truncate(size - torn)
    return _last(stream)


def _last(stream: BinaryIO) -> Head:
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, size - TAIL_BYTES))
    lines = [line for line in stream.read().splitlines(keepends=True) if line.endswith(b"\n")]
    if not lines:
        return Head()
    try:
        record = json.loads(lines[-1])
        return Head(int(record["seq"]), str(record["digest"]))
    except (ValueError, KeyError, TypeError) as error:
        raise Tampered("the last record of the audit trail cannot be read") from error


def _line(record: Mapping[str, object]) -> bytes:
    return json.dumps(record, ensure_ascii=True, separators=(",", ":")).encode() + b"\n"


def _digest(record: Mapping[str, object]) -> str:
    covered = {name: value for name, value in record.items() if name != "digest"}
    return hashlib.sha256(_line(covered)).hexdigest()
