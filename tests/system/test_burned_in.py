"""Text painted out of a photograph, as a reader sees it that the gateway does not use: Debian's tesseract."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from photographs import skin
from system.peers import find_program

from gateway.burnin import TextFinder, painted_out

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    """``benchmarks/burned_in.py``, which does the same with a hundred photographs."""
    find_program("tesseract")
    pytest.importorskip("rapidocr")
    file = Path(__file__).resolve().parents[2] / "benchmarks" / "burned_in.py"
    spec = importlib.util.spec_from_file_location("burned_in", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["burned_in"] = module  # where its dataclass looks for itself
    spec.loader.exec_module(module)
    return module


def test_a_name_a_number_and_a_day_that_tesseract_reads_are_not_read_after_they_were_painted_out(
    benchmark: ModuleType,
) -> None:
    photograph = np.tile(skin(400, 300), (1, 2, 1))
    label = np.zeros(photograph.shape[:2], np.uint8)
    label[:, 300:] = 1
    picture, lines = benchmark.burn_in(photograph, label, np.random.default_rng(0), 1)
    assert len(lines) == 3
    assert all(benchmark.readable(picture, lines, turns=(0,)))
    clean, mask, left = painted_out(TextFinder(), picture)
    assert left == 0
    assert np.array_equal(clean[~mask], picture[~mask])
    assert not any(benchmark.readable(clean, lines))
