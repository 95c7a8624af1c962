"""Weights in and out: detectron2's ``.pth`` and safetensors, always matched name by name."""

from pathlib import Path

import torch
from torch import Tensor

from inference.pointrend.model import PointRend


class WeightsError(ValueError):
    """A file holds no weights for this model; the message says why."""


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors by name from ``.safetensors``, or from a ``.pth`` as detectron2 writes it (``{"model": …}``).

    Raises
    ------
    WeightsError
        Not readable, or a pickle that wants to run code.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and safetensors raise many kinds, all mean the same here
        raise WeightsError(f"{path.name} cannot be read as weights") from error
    state = content.get("model", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"{path.name} holds no state dictionary")
    return state


def load_weights(model: PointRend, path: Path) -> None:
    """Fills ``model`` from a file; every name and shape must match, half-precision is widened.

    Raises
    ------
    WeightsError
        Unreadable, or names or shapes that do not match.
    """
    state = {name: t.float() if t.is_floating_point() else t for name, t in read_weights(path).items()}
    # detectron2 before 0.6 stored the normalisation of the input among the weights.
    state = {name: t for name, t in state.items() if name not in ("pixel_mean", "pixel_std")}
    try:
        model.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise WeightsError(f"{path.name} does not fit the configuration") from error


def write_weights(model: PointRend, path: Path, *, half: bool = True) -> None:
    """Writes safetensors, names as detectron2's; floating-point tensors as float16 where ``half``."""
    from safetensors.torch import save_file

    state = {
        name: (t.half() if half and t.is_floating_point() else t).contiguous().cpu()
        for name, t in model.state_dict().items()
    }
    save_file(state, path)
    path.chmod(0o644)
