"""Memory that the pixels of one object took stays with the process for those of the next.

The allocator of glibc gives blocks of that size back to the system and asks for them again, and the system fills every
page with zeros each time: for three megabytes that takes as long as writing them to a file.
"""

import ctypes
from contextlib import suppress

KEPT_BYTES = 256 << 20
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # malloc.h
_LONGEST = 32 << 20  # the most glibc takes for the second


def keep_freed() -> None:
    """Up to :data:`KEPT_BYTES` of freed memory stay with this process; with another C library nothing changes."""
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        mallopt(_TRIM_THRESHOLD, KEPT_BYTES)
        mallopt(_MMAP_THRESHOLD, _LONGEST)
