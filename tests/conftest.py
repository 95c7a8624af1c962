"""What every test may ask for."""

import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))  # for the modules tests share: photographs, system.peers

from served import repository, triton  # noqa: E402, F401 - fixtures for all tests


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of test data that is no part of the project (``ANOSKIN_DATA``); skips where it is absent."""
    folder = Path(os.environ.get("ANOSKIN_DATA", str(ROOT.parent / "shared"))).resolve()
    if not folder.is_dir():
        pytest.skip("the test data (ANOSKIN_DATA) is not here")
    return folder


@pytest.fixture
def restored_logging() -> Iterator[None]:
    """Whatever the test configures about logging ends with it."""
    names = ("", "dbos", "pynetdicom", "pydicom", "apscheduler", "py.warnings")
    loggers = [logging.getLogger(name) for name in names]
    before = [(logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    hook = threading.excepthook
    with warnings.catch_warnings():
        yield
        logging.captureWarnings(False)
    threading.excepthook = hook
    for logger, (handlers, level, propagate) in zip(loggers, before, strict=True):
        logger.handlers[:], logger.level, logger.propagate = handlers, level, propagate
    structlog.reset_defaults()
