"""A small face recogniser whose ONNX file `insightface` runs as ArcFace, unchanged.

Depthwise-separable as MobileFaceNet (Chen et al., 2018), ending in a depthwise convolution over what is
left of the picture instead of pooling, so that each place of the face keeps its own weight.

Shape letters: N batch, D length of the embedding.
"""

import warnings
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from inference.contract import Floats, Image
from inference.faces.align import SIDE_PX

LENGTH = 128
"""D, as the teacher's."""

MEAN, DEVIATION = 127.5, 127.5
"""`insightface` feeds recognisers without a leading Sub and Mul node with (value − 127.5) / 127.5, RGB."""


class TeacherMissing(Exception):
    """The recogniser to learn from cannot be read; the message names the file."""


def _convolution(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class _Separable(nn.Module):
    """Depthwise then pointwise; adds its input where the shape stays."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _convolution(inputs, inputs, 3, stride, inputs), _convolution(inputs, outputs, 1)
        )
        self.adds = inputs == outputs and stride == 1

    def forward(self, features: Tensor) -> Tensor:
        made: Tensor = self.body(features)
        return features + made if self.adds else made


class Recogniser(nn.Module):
    """Aligned crops to embeddings of length :data:`LENGTH`.

    Parameters
    ----------
    width
        Channels at 28 × 28; everything else follows from it.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        w = width
        self.trunk = nn.Sequential(
            _convolution(3, w // 2, 3, 2),
            _Separable(w // 2, w, 2),
            *(_Separable(w, w) for _ in range(2)),
            _Separable(w, 2 * w, 2),
            *(_Separable(2 * w, 2 * w) for _ in range(6)),
            _Separable(2 * w, 4 * w, 2),
            *(_Separable(4 * w, 4 * w) for _ in range(3)),
            _convolution(4 * w, 8 * w, 1),
        )
        self.places = nn.Sequential(
            nn.Conv2d(8 * w, 8 * w, SIDE_PX // 16, groups=8 * w, bias=False), nn.BatchNorm2d(8 * w)
        )
        self.embedding = nn.Linear(8 * w, LENGTH)

    def forward(self, crops: Tensor) -> Tensor:
        """Embeddings float32 (N, D), of any length, of crops float32 (N, 3, 112, 112) in [-1, 1], RGB."""
        embedded: Tensor = self.embedding(self.places(self.trunk(crops)).flatten(1))
        return embedded


def export(recogniser: Recogniser, path: Path) -> None:
    """Write the recogniser as ONNX with a free batch."""
    with warnings.catch_warnings():
        # The exporter that needs no further package announces its own retirement.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            deepcopy(recogniser).eval(),
            (torch.zeros(1, 3, SIDE_PX, SIDE_PX),),
            str(path),
            input_names=["crops"],
            output_names=["embeddings"],
            dynamic_axes={"crops": {0: "batch"}, "embeddings": {0: "batch"}},
            opset_version=17,
            dynamo=False,
        )


@dataclass(frozen=True, slots=True)
class Loss:
    """The parts of one step's loss; ``total`` is what is minimised."""

    total: Tensor
    cosine: float
    relation: float


def loss(embedded: Tensor, taught: Tensor, relation: float) -> Loss:
    """How far the embeddings are from the teacher's, one by one and among each other.

    Parameters
    ----------
    embedded
        float32 (N, D), of any length.
    taught
        float32 (N, D), unit length.
    relation
        Weight of the second part: the mean squared difference between the two matrices of cosines within the
        batch (relational distillation, Park et al., 2019, with cosines for distances).
    """
    ours = functional.normalize(embedded, dim=1)
    cosine = (1 - (ours * taught).sum(dim=1)).mean()
    apart = (ours @ ours.T - taught @ taught.T).square()
    count = len(ours)
    among = apart.sum() / max(1, count * (count - 1))
    return Loss(cosine + relation * among, float(cosine.detach()), float(among.detach()))


def teacher(path: Path, *, threads: int = 1) -> Callable[[Image], Floats]:
    """The 128-d MobileFaceNet to learn from, as a function of one aligned uint8 RGB crop (112, 112, 3).

    Raises
    ------
    TeacherMissing
        The file is not there or is no ONNX model of this kind.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no root of their own
        raise TeacherMissing(f"the recogniser to learn from cannot be read: {path}") from error
    source = session.get_inputs()[0].name
    # It was trained on pictures normalised as for ImageNet.
    mean = np.array([0.485, 0.456, 0.406], np.float32) * 255
    deviation = np.array([0.229, 0.224, 0.225], np.float32) * 255

    def answer(crop: Image) -> Floats:
        fed = ((crop.astype(np.float32) - mean) / deviation).transpose(2, 0, 1)[None]
        embedded = np.asarray(session.run(None, {source: np.ascontiguousarray(fed)})[0][0], np.float32)
        return embedded / np.float32(np.linalg.norm(embedded))

    return answer
