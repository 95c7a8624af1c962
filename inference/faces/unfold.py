"""A published detector as the start of more training: its ONNX weights back in the PyTorch model.

Export folds every normalisation into the convolution before it. Here each convolution takes its folded weights, and
its normalisation is set so that, on a batch of pictures, it does nothing but add the folded bias; training then goes on
from the function that was published.
"""

from pathlib import Path

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from inference.faces.detector import Detector


class PublishedMismatch(Exception):
    """The ONNX file is no export of this detector; the message says what does not fit."""


def unfold(path: Path, model: Detector, images: Tensor) -> None:
    """Give ``model`` the weights of an exported detector, in place.

    Parameters
    ----------
    path
        What :func:`inference.faces.detector.export` wrote, of the same width.
    model
        Receives the weights.
    images
        float32 (N, 3, H, W), normalised: pictures as training will draw them, for the statistics.

    Raises
    ------
    PublishedMismatch
        The file cannot be read, or holds other layers.
    """
    folded, named = _layers(path)
    mine = dict(model.named_parameters())
    try:
        for name, value in named.items():
            mine[name].data.copy_(value)
    except (KeyError, RuntimeError) as error:
        raise PublishedMismatch(f"{path}: {name} does not fit this detector") from error
    met: list[nn.Conv2d] = []

    def convolution(layer: nn.Module, _: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, nn.Conv2d)
        if len(met) >= len(folded) or folded[len(met)][0].shape != layer.weight.shape:
            raise PublishedMismatch(f"{path} has other layers than this detector")
        layer.weight.data.copy_(folded[len(met)][0])
        met.append(layer)

    def normalisation(layer: nn.Module, given: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, nn.BatchNorm2d)
        assert layer.running_mean is not None and layer.running_var is not None
        mean, spread = given[0].mean((0, 2, 3)), given[0].var((0, 2, 3))
        layer.running_mean.copy_(mean)
        layer.running_var.copy_(spread)
        layer.weight.data.copy_((spread + layer.eps).sqrt())
        layer.bias.data.copy_(mean + folded[len(met) - 1][1])

    hooks = [
        layer.register_forward_pre_hook(convolution if isinstance(layer, nn.Conv2d) else normalisation)
        for layer in model.modules()
        if isinstance(layer, nn.BatchNorm2d) or (isinstance(layer, nn.Conv2d) and layer.bias is None)
    ]
    try:
        with torch.no_grad():
            model.eval()(images)
    finally:
        for hook in hooks:
            hook.remove()
    if len(met) != len(folded):
        raise PublishedMismatch(f"{path} has other layers than this detector")


def _layers(path: Path) -> tuple[list[tuple[Tensor, Tensor]], dict[str, Tensor]]:
    """The folded convolutions, weight and bias, in the order they run; and the parameters that kept their name."""
    try:
        graph = onnx.load(str(path)).graph
    except Exception as error:  # whatever a file that is none provokes
        raise PublishedMismatch(f"{path} cannot be read as ONNX") from error
    values = {each.name: torch.from_numpy(numpy_helper.to_array(each).copy()) for each in graph.initializer}
    kept = {
        name.removeprefix("detector."): value
        for name, value in values.items()
        if name.startswith("detector.")
    }
    folded = [
        (values[node.input[1]], values[node.input[2]])
        for node in graph.node
        if node.op_type == "Conv" and not node.input[1].startswith("detector.")
    ]
    return folded, kept
