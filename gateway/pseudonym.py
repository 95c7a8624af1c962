"""Keyed pure functions from original to pseudonymous identifiers.

Everything is HMAC-SHA-256 of the original value under the site's key, so that the same original gives the
same pseudonym in every process, on every host and after every restart, without a table that could be lost or
stolen. Whoever does not hold the key can neither compute nor test a pseudonym.

Each message is a list of length-prefixed fields that begins with its purpose: no two purposes can collide,
and ``("ab", "c")`` is another message than ``("a", "bc")``.
"""

import hmac
import re
import unicodedata
from datetime import date, timedelta
from hashlib import sha256

from gateway.errors import Misconfigured
from gateway.instance import PseudonymousUid

MIN_KEY_BYTES = 32
MAX_SHIFT_DAYS = 3650
IDENTIFIER_LENGTH = 16
KEY_NAME_LENGTH = 8

_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_PAIRS = tuple(one + other for one in _ALPHABET for other in _ALPHABET)
_PSEUDONYM = re.compile(r"[A-Z2-7]{16}|2\.25\.\d{1,39}")
_DATE = re.compile(r"(\d{4})([.\-/]?)(\d{2})\2(\d{2})")
_DATETIME = re.compile(
    r"(\d{4})(?:(\d{2})(?:(\d{2})(\d{2}(?:\d{2}(?:\d{2}(?:\.\d{1,6})?)?)?)?)?)?([+-]\d{4})?"
)
_TIME = re.compile(r"(?:[01]\d|2[0-3])(?::?[0-5]\d(?::?(?:[0-5]\d|60)(?:\.\d{1,6})?)?)?")


class Pseudonyms:
    """The site's mapping from originals to pseudonyms.

    Parameters
    ----------
    key
        The site's secret, at least 32 bytes. Another key is another archive: nothing links the two.

    Raises
    ------
    Misconfigured
        The key is too short.
    """

    __slots__ = ("_key", "_key_name")

    def __init__(self, key: bytes) -> None:
        if not len(key) >= MIN_KEY_BYTES:
            raise Misconfigured(f"the pseudonym key must have at least {MIN_KEY_BYTES} bytes")
        self._key = bytes(key)
        self._key_name = _letters(self._digest("key-name"))[:KEY_NAME_LENGTH]

    def __repr__(self) -> str:
        return "Pseudonyms(key=…)"

    def _digest(self, *fields: str) -> bytes:
        message = b""
        for one in fields:
            value = one.encode("utf-8", "replace")
            message += len(value).to_bytes(4, "big") + value
        return hmac.digest(self._key, message, sha256)

    @property
    def key_name(self) -> str:
        """The name of the key: 8 characters that tell it from others and nothing about it."""
        return self._key_name

    def uid(self, original: str) -> PseudonymousUid:
        """The UID that stands for ``original``: ``2.25.`` and a version 8 UUID as an integer (PS3.5 B.2).

        Padding (trailing NUL or space) makes no difference.
        """
        octets = bytearray(self._digest("uid", original.strip(" \0"))[:16])
        octets[6] = octets[6] & 0x0F | 0x80  # RFC 9562: version 8, the vendor's own
        octets[8] = octets[8] & 0x3F | 0x80  # RFC 9562: variant
        return PseudonymousUid(f"2.25.{int.from_bytes(octets, 'big')}")

    def identifier(self, value: str, issuer: str = "", kind: str = "patient") -> str:
        """The identifier that stands for ``value`` of ``issuer``: 16 characters A–Z and 2–7, safe in LO, SH
        and PN.

        Parameters
        ----------
        value
            The original; leading and trailing spaces make no difference. With ``kind="person"`` it is a
            person's name and is normalised first (:func:`normal_name`).
        issuer
            Who gave the original; the same value of two issuers is two identifiers.
        kind
            What it identifies; the same value of two kinds is two identifiers.
        """
        original = normal_name(value) if kind == "person" else value.strip(" \0")
        return _letters(self._digest("identifier", kind, issuer.strip(" \0"), original))[:IDENTIFIER_LENGTH]

    def date_shift_days(self, patient: str, issuer: str = "") -> int:
        """Whole days by which every date of this patient moves, in ±(1 … 3650), never 0.

        One number for all of a patient's objects, so that intervals between them stay true.
        """
        n = int.from_bytes(self._digest("date", issuer.strip(" \0"), patient.strip(" \0"))[:8], "big")
        n %= 2 * MAX_SHIFT_DAYS
        return n - MAX_SHIFT_DAYS if n < MAX_SHIFT_DAYS else n - MAX_SHIFT_DAYS + 1


def _letters(digest: bytes) -> str:
    """The first 80 bits in base 32 (RFC 4648): 16 characters, taken two by two."""
    number = int.from_bytes(digest[:10], "big")
    return "".join([_PAIRS[number >> place & 0x3FF] for place in range(70, -1, -10)])


def is_pseudonym(text: str) -> bool:
    """Whether ``text`` can be a pseudonym from here, and not an original that somebody took for one."""
    return _PSEUDONYM.fullmatch(text) is not None


def normal_name(name: str) -> str:
    """A person's name without what does not distinguish persons (PS3.5 6.2.1).

    Empty trailing components and component groups, repeated blanks and letter case are dropped:
    ``A^B``, ``A^B^`` and ``a^ b^^==`` are one name, and so are letters with accents however they are composed.
    """
    groups = (
        "^".join(" ".join(part.split()) for part in group.split("^")).rstrip("^")
        for group in unicodedata.normalize("NFC", name).replace("\0", " ").split("=")
    )
    return "=".join(groups).rstrip("=").casefold()


def shift_date(value: str, days: int) -> str | None:
    """A DA value moved by ``days``, as YYYYMMDD; ``None`` where it is no date that can be moved.

    Separators as in ACR-NEMA (``2001.02.03``) are understood and dropped.
    """
    match = _DATE.fullmatch(value.strip(" \0"))
    if match is None:
        return None
    moved = _moved(int(match[1]), int(match[3]), int(match[4]), days)
    return None if moved is None else moved.isoformat().replace("-", "")


def shift_datetime(value: str, days: int) -> str | None:
    """A DT value moved by ``days`` with its precision, time of day, fraction and zone; ``None`` if it cannot
    be.

    A value that stops at the year or the month is moved from the middle of it and keeps its precision.
    """
    match = _DATETIME.fullmatch(value.strip(" \0"))
    if match is None:
        return None
    year, month, day, clock, zone = match.groups()
    if clock and _TIME.fullmatch(clock) is None:
        return None
    moved = _moved(int(year), int(month or 7), int(day or (15 if month else 1)), days)
    if moved is None:
        return None
    length = 4 + (2 if month else 0) + (2 if day else 0)
    return moved.isoformat().replace("-", "")[:length] + (clock or "") + (zone or "")


def keep_time(value: str) -> str | None:
    """A TM value as it is, because whole days do not move it; ``None`` where it is no time of day."""
    stripped = value.strip(" \0")
    return stripped if _TIME.fullmatch(stripped) else None


def _moved(year: int, month: int, day: int, days: int) -> date | None:
    try:
        return date(year, month, day) + timedelta(days=days)
    except (ValueError, OverflowError):
        return None
