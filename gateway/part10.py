"""The seam to pydicom's reader and writer: Part 10 files in, Part 10 files out (PS3.10 clause 7).

pydicom may raise almost anything on a hostile file, and its warnings and log records quote element values.
None of that leaves this seam.
"""

import logging
import os
import re
import warnings
import zlib
from collections.abc import Sequence
from contextlib import AbstractContextManager
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

from pydicom import Dataset, dcmread, dcmwrite
from pydicom.datadict import tag_for_keyword
from pydicom.uid import DeflatedExplicitVRLittleEndian

from gateway import reader
from gateway.errors import Held, Outcome, Refused
from gateway.writer import encoded

PREAMBLE_BYTES = 128
INFLATED_BYTES = 1 << 29
"""The longest data set that may come deflated; photographs never do."""
_HEAD_BYTES, _SMALL_BYTES, _CHUNK_BYTES = 1 << 16, 1 << 20, 1 << 20
_DEFLATED = re.compile(rb"\x02\0\x10\0UI.." + re.escape(DeflatedExplicitVRLittleEndian.encode()), re.DOTALL)
_META_FIRST = tuple(b"\x02\x00" + element for element in (b"\0\0UL", b"\x01\0OB", b"\x02\0UI", b"\x10\0UI"))

# For the whole process, whoever runs it: pydicom's warnings and log records quote element values, and nobody here has
# a use for them. `quiet` alone would not do, because all threads share one list of warning filters.
warnings.filterwarnings("ignore", module=r"pydicom\b.*")
logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)


def quiet() -> AbstractContextManager[object]:
    """Within, all warnings are dropped, whoever they are attributed to and whatever turned them into errors."""
    return warnings.catch_warnings(action="ignore")


def read(source: bytes | Path) -> Dataset:
    """The data set and file meta of one Part 10 file, from its bytes or its path.

    A file that begins with its file meta information, without preamble and prefix, is read as well.

    Raises
    ------
    Held
        ``unreadable``: it is no Part 10 file, or its structure is broken.
    Refused
        ``size``: it is deflated and would be larger than `INFLATED_BYTES`.
    OSError
        The disk could not be read.
    """
    # The disk is read here and not by pydicom, whose OSError may as well mean a broken sequence.
    plain = reader.read(source) if isinstance(source, bytes) else _plain(source)
    if plain is not None:
        return plain
    data = source if isinstance(source, bytes) else source.read_bytes()
    try:
        with quiet():
            _check_inflated(data)
            return dcmread(BytesIO(data), force=data.startswith(_META_FIRST))
    except Outcome:
        raise
    except Exception as error:
        raise Held("unreadable", _sentence(error)) from error


class Looked(NamedTuple):
    """What a file holds, for those who change nothing: pixels without compression are a view of it.

    Attributes
    ----------
    ds
        Its data set and file meta.
    whole
        Whether it is known to be nothing but elements, behind a preamble of zeros.
    """

    ds: Dataset
    whole: bool


def look(file: bytes) -> Looked:
    """A finished file, read again.

    Raises
    ------
    Held, Refused
        As for :func:`read`.
    """
    plain = reader.read(file, whole=True)
    return Looked(read(file), whole=False) if plain is None else Looked(plain, whole=True)


def _plain(file: Path) -> Dataset | None:
    """A file read without pydicom, its pixels once and to where they stay; ``None`` where that cannot be."""
    with file.open("rb", buffering=0) as stream:

        def rest(start: int, length: int) -> bytes:
            stream.seek(start)
            return stream.read(length) or b""

        size = os.fstat(stream.fileno()).st_size
        start = stream.read(_HEAD_BYTES) or b""
        if len(start) < size <= _SMALL_BYTES:
            start += rest(len(start), size - len(start))
        return reader.read(start, size, rest)


def _sentence(error: Exception) -> str:
    return f"the object's structure cannot be read ({type(error).__name__})"


def _is_deflated(data: bytes) -> bool:
    # Anywhere in the head: bytes that only look like the element, as in a preamble, must not hide the true one.
    return _DEFLATED.search(data, 0, _HEAD_BYTES) is not None


def _check_inflated(data: bytes) -> None:
    """A deflated data set may be a thousand times as large as its file; pydicom would inflate it without a limit."""
    if not _is_deflated(data):
        return
    if data[132:140] != b"\x02\0\0\0UL\x04\0":
        raise Held("unreadable", "a deflated object does not say where its data set begins")
    rest, total, inflate = data[144 + int.from_bytes(data[140:144], "little") :], 0, zlib.decompressobj(-15)
    while rest and not inflate.eof:
        total += len(inflate.decompress(rest, _CHUNK_BYTES))
        rest = inflate.unconsumed_tail
        if total > INFLATED_BYTES:
            raise Refused("size", "inflated, the object would be larger than allowed")


def peek(file: Path, keywords: Sequence[str]) -> Dataset:
    """A few attributes of a Part 10 file that stand before its pixels, without loading the rest.

    Raises
    ------
    Held
        ``unreadable``: as for :func:`read`.
    OSError
        The disk could not be read.
    """
    with file.open("rb") as stream:
        start = stream.read(_HEAD_BYTES)
        size = max(len(start), os.fstat(stream.fileno()).st_size)
        plain = reader.read(start, size, only={0, *(tag_for_keyword(k) or 0 for k in keywords)})
        if plain is not None:
            return plain
        stream.seek(0)
        if _is_deflated(start):
            return read(file)
        try:
            with quiet():
                return dcmread(
                    stream,
                    force=start.startswith(_META_FIRST),
                    stop_before_pixels=True,
                    specific_tags=list(keywords),
                )
        except Exception as error:
            raise Held("unreadable", _sentence(error)) from error


def write(ds: Dataset) -> bytes:
    """The complete Part 10 file of a scrubbed data set, its preamble all zeros.

    Raises
    ------
    Held
        ``unwritable``: an element cannot be encoded.
    """
    return b"".join(pieces(ds))


def is_exactly(file: bytes, ds: Dataset) -> bool:
    """Whether a file is what :func:`write` makes of a data set, and nothing more.

    Raises
    ------
    Held
        ``unwritable``: an element cannot be encoded.
    """
    place = 0
    for piece in pieces(ds):
        if not file.startswith(piece, place):
            return False
        place += len(piece)
    return place == len(file)


def pieces(ds: Dataset) -> list[bytes]:
    """What :func:`write` joins: for those who write into a file and want no copy of the pixels.

    Raises
    ------
    Held
        ``unwritable``: an element cannot be encoded.
    """
    buffer = BytesIO()
    try:
        with quiet():
            written = encoded(ds)
            if written is not None:
                return written
            ds.preamble = bytes(PREAMBLE_BYTES)
            dcmwrite(buffer, ds, enforce_file_format=True)
    except Exception as error:
        raise Held("unwritable", f"the clean object cannot be written ({type(error).__name__})") from error
    return [buffer.getvalue()]
