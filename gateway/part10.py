"""The seam to pydicom's reader and writer: Part 10 files in, Part 10 files out (PS3.10 clause 7).

pydicom may raise almost anything on a hostile file, and its warnings and log records quote element values.
None of that leaves this seam.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

from pydicom import Dataset, dcmread, dcmwrite

from gateway.errors import Held

PREAMBLE_BYTES = 128
_META_FIRST = tuple(b"\x02\x00" + element for element in (b"\0\0UL", b"\x01\0OB", b"\x02\0UI", b"\x10\0UI"))

# For the whole process, whoever runs it: pydicom's warnings and log records quote element values, and nobody here has
# a use for them. `quiet` alone would not do, because all threads share one list of warning filters.
warnings.filterwarnings("ignore", module=r"pydicom\b.*")
logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)


@contextmanager
def quiet() -> Iterator[None]:
    """Within, all warnings are dropped, whoever they are attributed to and whatever turned them into errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def read(source: bytes | Path) -> Dataset:
    """The data set and file meta of one Part 10 file, from its bytes or its path.

    A file that begins with its file meta information, without preamble and prefix, is read as well.

    Raises
    ------
    Held
        ``unreadable``: it is no Part 10 file, or its structure is broken.
    OSError
        The disk could not be read.
    """
    # The disk is read here and not by pydicom, whose OSError may as well mean a broken sequence.
    data = source if isinstance(source, bytes) else source.read_bytes()
    try:
        with quiet():
            return dcmread(BytesIO(data), force=data.startswith(_META_FIRST))
    except Exception as error:
        raise Held("unreadable", f"the object's structure cannot be read ({type(error).__name__})") from error


def write(ds: Dataset) -> bytes:
    """The complete Part 10 file of a scrubbed data set, its preamble all zeros.

    Raises
    ------
    Held
        ``unwritable``: an element cannot be encoded.
    """
    buffer = BytesIO()
    ds.preamble = bytes(PREAMBLE_BYTES)
    try:
        with quiet():
            dcmwrite(buffer, ds, enforce_file_format=True)
    except Exception as error:
        raise Held("unwritable", f"the clean object cannot be written ({type(error).__name__})") from error
    return buffer.getvalue()
