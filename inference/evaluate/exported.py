"""Networks that others publish or a site exports as one TorchScript file."""

import warnings
from pathlib import Path
from typing import Any

import torch

from inference.data import DataError


def load_network(file: Path, sentence: str) -> Any:
    """The network in ``file``, ready to answer on the CPU.

    Parameters
    ----------
    file
        TorchScript.
    sentence
        What to say where it cannot be loaded.

    Raises
    ------
    DataError
        It is missing, or no such network.
    """
    try:
        with warnings.catch_warnings():
            # PyTorch will stop writing this format, in which these networks are published; it still reads it.
            warnings.simplefilter("ignore", DeprecationWarning)
            return torch.jit.load(str(file), map_location="cpu").eval()
    except (OSError, RuntimeError, ValueError) as error:
        raise DataError(sentence) from error
