"""Weights in and out: detectron2's ``.pth`` and ``.pkl``, and safetensors; always matched name by name."""

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from inference.pointrend.model import PointRend

COUNTER = "num_batches_tracked"
"""Name of batch normalisation's counter, which old checkpoints lack and inference does not read."""

_HARMLESS = {
    *(
        (f"numpy.{core}.multiarray", name)
        for core in ("core", "_core")
        for name in ("_reconstruct", "scalar")
    ),
    *(("numpy", name) for name in ("ndarray", "dtype")),
    ("collections", "OrderedDict"),
    ("_codecs", "encode"),  # how Python 3 writes bytes into pickles of protocol 2
}


class WeightsError(ValueError):
    """A file holds no weights for this model; the message says why."""


class _ArraysOnly(pickle.Unpickler):
    """Reads dictionaries of arrays and nothing else, so that no pickle can run code."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _HARMLESS:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} is no array")


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors by name from ``.safetensors``, or from a ``.pth`` or ``.pkl`` of detectron2 (``{"model": …}``).

    Raises
    ------
    WeightsError
        Not readable, a pickle that wants to run code, or a backbone that detectron2 matches by guessing.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        content: Any
        if path.suffix == ".pkl":
            content = _ArraysOnly(io.BytesIO(path.read_bytes()), encoding="latin1").load()
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch, pickle and safetensors raise many kinds, all mean the same here
        raise WeightsError(f"{path.name} cannot be read as weights") from error
    state = content.get("model", content) if isinstance(content, dict) else None
    if isinstance(content, dict) and content.get("matching_heuristics"):
        raise WeightsError(
            f"{path.name} is a converted backbone whose names are to be guessed, no trained model"
        )
    if isinstance(state, dict):
        state = {name: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for name, v in state.items()}
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"{path.name} holds no state dictionary")
    return state


def load_weights(model: PointRend, path: Path) -> None:
    """Fills ``model`` from a file; every name and shape must match, half-precision is widened.

    Raises
    ------
    WeightsError
        Unreadable, or names or shapes that do not match; some of them are named.
    """
    fill(model, read_weights(path), path.name)


def fill(model: PointRend, found: dict[str, Tensor], source: str) -> None:
    """Fills ``model`` from tensors by name, as :func:`load_weights` does; ``source`` is named in errors.

    Raises
    ------
    WeightsError
        Names or shapes that do not match; some of them are named.
    """
    state = {name: t.float() if t.is_floating_point() else t for name, t in found.items()}
    # detectron2 before 0.6 stored the normalisation of the input among the weights.
    state = {name: t for name, t in state.items() if name not in ("pixel_mean", "pixel_std")}
    wanted = model.state_dict()
    counters = {name: t for name, t in state.items() if name.endswith(COUNTER)}
    state = {name: t for name, t in state.items() if name not in counters}
    faults = {
        "missing": wanted.keys() - state.keys(),
        "unknown": state.keys() - wanted.keys(),
        "of another shape": {n for n, t in state.items() if n in wanted and t.shape != wanted[n].shape},
    }
    faults["missing"] = {name for name in faults["missing"] if not name.endswith(COUNTER)}
    said = [f"{len(names)} {fault} (such as {min(names)})" for fault, names in faults.items() if names]
    if said:
        raise WeightsError(f"{source} does not fit the configuration: {', '.join(said)}")
    known = {name: t for name, t in counters.items() if name in wanted}
    model.load_state_dict(wanted | state | known, strict=True)


def adopt_weights(model: PointRend, path: Path) -> tuple[str, ...]:
    """Begin with another model's weights, which may tell other classes apart; names of those that do not fit.

    Layers of the heads whose shape depends on the number of classes keep their random start; all others must match.

    Raises
    ------
    WeightsError
        Unreadable, or of another architecture.
    """
    state, wanted = read_weights(path), model.state_dict()
    heads = {
        name
        for name, t in state.items()
        if name.startswith("sem_seg_head.") and name in wanted and t.shape != wanted[name].shape
    }
    fill(model, {name: wanted[name] if name in heads else t for name, t in state.items()}, path.name)
    return tuple(sorted(heads))


def write_weights(model: PointRend, path: Path, *, half: bool = True) -> None:
    """Writes safetensors, names as detectron2's; floating-point tensors as float16 where ``half``."""
    from safetensors.torch import save_file

    state = {
        name: (t.half() if half and t.is_floating_point() else t).contiguous().cpu()
        for name, t in model.state_dict().items()
    }
    save_file(state, path)
    path.chmod(0o644)


def write_checkpoint(model: PointRend, path: Path) -> None:
    """Writes what detectron2's checkpointer loads strictly: ``.pth`` (tensors) or ``.pkl`` (arrays).

    Raises
    ------
    WeightsError
        Another suffix.
    """
    state = {name: tensor.contiguous().cpu() for name, tensor in model.state_dict().items()}
    if path.suffix == ".pth":
        torch.save({"model": state}, path)
    elif path.suffix == ".pkl":
        arrays = {name: tensor.numpy() for name, tensor in state.items()}
        path.write_bytes(pickle.dumps({"model": arrays, "__author__": "Ano-Skin Gateway"}, protocol=4))
    else:
        raise WeightsError(f"{path.name} is neither a .pth nor a .pkl, which is what detectron2 reads")
