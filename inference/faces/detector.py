"""A small face detector whose ONNX file `insightface` runs as SCRFD, unchanged.

The shape follows SCRFD (Guo et al., "Sample and Computation Redistribution for Efficient Face Detection",
2021): three strides, two anchors at each place, and per anchor a score, four distances from its centre to
the sides of the box, and five landmarks relative to it, both in units of the stride.

Shape letters: N batch, H × W picture (multiples of 32), M anchors of one stride, A anchors of all, G faces.
"""

import math
import warnings
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

STRIDES = (8, 16, 32)
SCALES_PX = ((16.0, 32.0), (64.0, 128.0), (256.0, 512.0))
"""Side of the face each of the two anchors of a stride stands for."""

MEAN, DEVIATION = 127.5, 128.0
"""`insightface` feeds SCRFD with (value − 127.5) / 128, RGB."""


def _convolution(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def _separable(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(_convolution(inputs, inputs, 3, stride, inputs), _convolution(inputs, outputs, 1))


class _Head(nn.Module):
    """Score, box and landmarks of the two anchors at every place of one stride."""

    def __init__(self, width: int, stride: int, scales: tuple[float, float]) -> None:
        super().__init__()
        self.score_tower = nn.Sequential(_separable(width, width), _separable(width, width))
        self.place_tower = nn.Sequential(_separable(width, width), _separable(width, width))
        self.score = nn.Conv2d(width, 2, 1)
        self.place = nn.Conv2d(width, 2 * 14, 1)
        # An anchor starts as a face of its own size: half of it to every side.
        units = torch.tensor(scales)[:, None].repeat(1, 14) / stride
        start = torch.zeros(14)
        start[:4] = 0.5
        self.register_buffer("units", units, persistent=False)
        self.register_buffer("start", start, persistent=False)
        nn.init.constant_(self.score.bias, -math.log(99))  # type: ignore[arg-type]
        nn.init.normal_(self.place.weight, std=0.01)
        nn.init.zeros_(self.place.bias)  # type: ignore[arg-type]

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        batch, _, height, width = features.shape
        logits = self.score(self.score_tower(features)).permute(0, 2, 3, 1).reshape(batch, -1, 1)
        places = self.place(self.place_tower(features)).permute(0, 2, 3, 1)
        places = places.reshape(batch, height * width, 2, 14)
        places = (places + self.start) * self.units
        return logits, places.reshape(batch, -1, 14)


class Detector(nn.Module):
    """Backbone, feature pyramid with a second way down, and one head per stride.

    Parameters
    ----------
    width
        Channels of the first layer; everything else follows from it.
    """

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        w = width
        neck = 4 * w
        self.stem = nn.Sequential(_convolution(3, w, 3, 2), _separable(w, 2 * w, 2), _separable(2 * w, 2 * w))
        self.stage8 = nn.Sequential(
            _separable(2 * w, 4 * w, 2), _separable(4 * w, 4 * w), _separable(4 * w, 4 * w)
        )
        self.stage16 = nn.Sequential(
            _separable(4 * w, 8 * w, 2), _separable(8 * w, 8 * w), _separable(8 * w, 8 * w)
        )
        self.stage32 = nn.Sequential(
            _separable(8 * w, 12 * w, 2), _separable(12 * w, 12 * w), _separable(12 * w, 12 * w)
        )
        self.lateral = nn.ModuleList(_convolution(each, neck, 1) for each in (4 * w, 8 * w, 12 * w))
        self.merge = nn.ModuleList(_separable(neck, neck) for _ in STRIDES)
        self.down = nn.ModuleList(_separable(neck, neck, 2) for _ in STRIDES[1:])
        self.heads = nn.ModuleList(
            _Head(neck, stride, scales) for stride, scales in zip(STRIDES, SCALES_PX, strict=True)
        )

    def forward(self, images: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Per stride: logits (N, M, 1), and distances and landmarks (N, M, 14) in units of the stride.

        Parameters
        ----------
        images
            float32 (N, 3, H, W), RGB, (value − 127.5) / 128.
        """
        at8 = self.stage8(self.stem(images))
        at16 = self.stage16(at8)
        at32 = self.stage32(at16)
        low, mid, high = (layer(each) for layer, each in zip(self.lateral, (at8, at16, at32), strict=True))
        mid = mid + functional.interpolate(high, scale_factor=2.0, mode="nearest")
        low = low + functional.interpolate(mid, scale_factor=2.0, mode="nearest")
        low = self.merge[0](low)
        mid = self.merge[1](mid + self.down[0](low))
        high = self.merge[2](high + self.down[1](mid))
        return [head(each) for head, each in zip(self.heads, (low, mid, high), strict=True)]


class _AsScrfd(nn.Module):
    """Nine outputs in SCRFD's order: scores, boxes, landmarks, each by stride."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        found = self.detector(images)
        scores = [logits.sigmoid().reshape(-1, 1) for logits, _ in found]
        boxes = [places[:, :, :4].reshape(-1, 4) for _, places in found]
        landmarks = [places[:, :, 4:].reshape(-1, 10) for _, places in found]
        return (*scores, *boxes, *landmarks)


def export(detector: Detector, path: Path) -> None:
    """Write the detector as ONNX with free height and width, for one picture at a time."""
    names = [f"{what}_{stride}" for what in ("score", "bbox", "kps") for stride in STRIDES]
    axes = {name: {0: f"anchors_{name}"} for name in names}
    wrapped = _AsScrfd(deepcopy(detector)).eval().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    with warnings.catch_warnings():
        # The exporter that needs no further package announces its own retirement.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            wrapped,
            (torch.zeros(1, 3, 128, 160),),
            str(path),
            input_names=["images"],
            output_names=names,
            dynamic_axes={"images": {2: "height", 3: "width"}, **axes},
            opset_version=17,
            dynamo=False,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Anchors:
    """Where the anchors of one picture size are.

    Attributes
    ----------
    centres
        float32 (A, 2), pixels.
    scale_px, stride_px
        float32 (A,).
    """

    centres: Tensor
    scale_px: Tensor
    stride_px: Tensor

    @staticmethod
    def of(height: int, width: int) -> "Anchors":
        """Anchors in the order of the detector's outputs."""
        centres, scales, strides = [], [], []
        for stride, pair in zip(STRIDES, SCALES_PX, strict=True):
            rows, columns = height // stride, width // stride
            down, across = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
            places = torch.stack([across, down], dim=-1).reshape(-1, 1, 2).repeat(1, 2, 1).reshape(-1, 2)
            centres.append(places.float() * stride)
            scales.append(torch.tensor(pair).repeat(rows * columns))
            strides.append(torch.full((2 * rows * columns,), float(stride)))
        return Anchors(torch.cat(centres), torch.cat(scales), torch.cat(strides))


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """What is in a batch of pictures, padded to the same number of faces.

    Attributes
    ----------
    boxes
        float32 (N, G, 4), pixels.
    landmarks
        float32 (N, G, 5, 2), pixels.
    present, counted
        bool (N, G): the row is a face at all; the face must be found.
    """

    boxes: Tensor
    landmarks: Tensor
    present: Tensor
    counted: Tensor


def assign(anchors: Anchors, truth: Truth, side_px: int) -> tuple[Tensor, Tensor]:
    """Which face each anchor answers for.

    An anchor answers for a face whose size is within a factor 1.75 of its own and whose centre is near;
    anchors around that place, and all that lie on faces that do not count, are left out of the loss.

    Returns
    -------
    face : int64 (N, A)
        Index of the face, −1 for none.
    ignored : bool (N, A)
    """
    centre = ((truth.boxes[..., :2] + truth.boxes[..., 2:]) / 2).clamp(1, side_px - 1)
    size = (truth.boxes[..., 2:] - truth.boxes[..., :2]).clamp_min(1).prod(-1).sqrt()
    away = (anchors.centres[None, None] - centre[:, :, None]).norm(dim=-1)
    octaves = (size[:, :, None] / anchors.scale_px).log2().abs()
    reach = torch.maximum(0.16 * size[:, :, None], 0.75 * anchors.stride_px)
    near = away / reach
    answers = (near <= 1) & (octaves <= 0.81) & truth.counted[:, :, None]
    cost = torch.where(answers, near + octaves, torch.inf)
    best, face = cost.min(dim=1)
    face = torch.where(best.isfinite(), face, -1)
    around = (near <= 1.7) & (octaves <= 1.3) & truth.present[:, :, None]
    uncounted = (
        (truth.present & ~truth.counted)[:, :, None] & (away < 0.7 * size[:, :, None]) & (octaves <= 1.5)
    )
    ignored = (around | uncounted).any(dim=1) & (face < 0)
    return face, ignored


def _overlap(found: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and DIoU (Zheng et al., 2020, Eq. 7) of boxes (..., 4)."""
    inner = (
        torch.minimum(found[..., 2:], true[..., 2:]) - torch.maximum(found[..., :2], true[..., :2])
    ).clamp_min(0)
    shared = inner.prod(-1)
    areas = (found[..., 2:] - found[..., :2]).clamp_min(0).prod(-1) + (true[..., 2:] - true[..., :2]).prod(-1)
    iou = shared / (areas - shared).clamp_min(1e-6)
    outer = torch.maximum(found[..., 2:], true[..., 2:]) - torch.minimum(found[..., :2], true[..., :2])
    apart = ((found[..., :2] + found[..., 2:]) - (true[..., :2] + true[..., 2:])) / 2
    return iou, iou - apart.square().sum(-1) / outer.square().sum(-1).clamp_min(1e-6)


@dataclass(frozen=True, slots=True)
class Loss:
    """The parts of one step's loss; ``total`` is what is minimised."""

    total: Tensor
    score: float
    box: float
    landmarks: float


def loss(found: list[tuple[Tensor, Tensor]], truth: Truth, side_px: int) -> Loss:
    """Quality focal loss on scores, DIoU on boxes, smooth L1 on landmarks.

    The score is asked to be the overlap its own box reaches (Li et al., "Generalized Focal Loss", 2020, Eq.
    4, β = 2), so that the best box of a face also has the best score.
    """
    anchors = Anchors.of(side_px, side_px)
    face, ignored = assign(anchors, truth, side_px)
    logits = torch.cat([each for each, _ in found], dim=1)[..., 0]
    places = torch.cat([each for _, each in found], dim=1) * anchors.stride_px[None, :, None]
    batch, row = (face >= 0).nonzero(as_tuple=True)
    which = face[batch, row]
    target = torch.zeros_like(logits)
    box_loss = landmark_loss = logits.sum() * 0
    if len(batch):
        centre = anchors.centres[row]
        place = places[batch, row]
        box = torch.cat([centre - place[:, :2], centre + place[:, 2:4]], dim=1)
        true_box = truth.boxes[batch, which]
        iou, diou = _overlap(box, true_box)
        target[batch, row] = iou.detach().clamp(0, 1)
        box_loss = (1 - diou).mean()
        size = (true_box[:, 2:] - true_box[:, :2]).prod(-1).sqrt()
        points = centre[:, None] + place[:, 4:].reshape(-1, 5, 2)
        error = (points - truth.landmarks[batch, which]) / size[:, None, None]
        landmark_loss = functional.smooth_l1_loss(error, torch.zeros_like(error), beta=0.02)
    focal = (target - logits.sigmoid()).abs().square()
    entropy = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    score_loss = (focal * entropy * ~ignored).sum() / max(1, len(batch))
    total = 2.0 * score_loss + 2.0 * box_loss + 20.0 * landmark_loss
    return Loss(total, float(score_loss.detach()), float(box_loss.detach()), float(landmark_loss.detach()))
