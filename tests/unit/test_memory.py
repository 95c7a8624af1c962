"""Memory of one object's pixels is used again for the next."""

import platform
import subprocess
import sys

import pytest

COUNT = """
import resource, sys
from gateway.memory import keep_freed
if sys.argv[1] == "kept":
    keep_freed()
def work():
    one = b"x" * (3 << 20)
    return one + b"y", one + b"z"
for _ in range(5):
    work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="this is about the allocator of glibc")
def test_pages_are_not_asked_for_again() -> None:
    faults = {
        how: int(subprocess.run([sys.executable, "-c", COUNT, how], capture_output=True, check=True).stdout)
        for how in ("kept", "given back")
    }
    assert faults["kept"] < 100 < 10_000 < faults["given back"]
