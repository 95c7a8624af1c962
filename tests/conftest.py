"""What every test may ask for."""

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))  # for the modules tests share: photographs, system.peers


def absent(what: str) -> None:
    """Something a test needs is not here: that skips on a laptop and fails in CI."""
    if os.environ.get("CI", "").lower() in {"true", "1"}:
        pytest.fail(f"{what} is not here, and CI has everything")
    pytest.skip(f"{what} is not here")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of test data that is no part of the project (``ANOSKIN_DATA``); skips where it is absent."""
    folder = Path(os.environ.get("ANOSKIN_DATA", str(ROOT.parent / "shared"))).resolve()
    if not folder.is_dir():
        pytest.skip("the test data (ANOSKIN_DATA) is not here")
    return folder


@pytest.fixture(scope="session")
def program() -> Callable[[str], str]:
    """The path of an installed program, by name."""

    def find(name: str) -> str:
        found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
        if found is None:
            absent(name)
        assert found is not None
        return found

    return find
