"""PointRend for semantic segmentation (Kirillov et al., CVPR 2020), as detectron2's project builds it.

A detectron2 checkpoint loads strictly: every parameter has the name it has there.

Shape letters: N batch, C classes, H × W input size (multiples of 32), D feature channels, P points.
Images are float BGR in [0, 255]. Point coordinates are x, y in [0, 1] of the whole picture.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from inference.pointrend.config import BLOCKS, LEVELS, PointRendConfig
from inference.pointrend.layers import BasicBlock, BottleneckBlock, Conv

STRIDES = {"p2": 4, "p3": 8, "p4": 16, "p5": 32}


class Stem(nn.Module):
    """7 × 7 convolution and 3 × 3 maximum, stride 4 together."""

    def __init__(self, channels: int, norm: str) -> None:
        super().__init__()
        self.conv1 = Conv(3, channels, 7, stride=2, norm=norm, relu=True)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) → (N, D, H / 4, W / 4)."""
        return functional.max_pool2d(self.conv1(x), kernel_size=3, stride=2, padding=1)


class ResNet(nn.Module):
    """Residual network with outputs res2 to res5."""

    def __init__(self, config: PointRendConfig) -> None:
        super().__init__()
        self.stem = Stem(config.stem_channels, config.norm)
        channels, out, middle = (
            config.stem_channels,
            config.res2_channels,
            config.groups * config.width_per_group,
        )
        for index, (name, count) in enumerate(zip(LEVELS, BLOCKS[config.depth], strict=True)):
            stage_stride = 1 if index == 0 else 2
            blocks: list[nn.Module] = []
            for block in range(count):
                stride = stage_stride if block == 0 else 1
                if config.depth < 50:
                    blocks.append(BasicBlock(channels, out, stride=stride, norm=config.norm))
                else:
                    blocks.append(
                        BottleneckBlock(
                            channels,
                            out,
                            middle=middle,
                            stride=stride,
                            groups=config.groups,
                            stride_in_1x1=config.stride_in_1x1,
                            norm=config.norm,
                        )
                    )
                channels = out
            self.add_module(name, nn.Sequential(*blocks))
            out, middle = out * 2, middle * 2

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(N, 3, H, W) → res2 to res5 by name."""
        features = {}
        x = self.stem(x)
        for name in LEVELS:
            x = self.get_submodule(name)(x)
            features[name] = x
        return features


class FeaturePyramid(nn.Module):
    """Feature pyramid p2 to p5 on a ResNet (``bottom_up``)."""

    def __init__(self, config: PointRendConfig) -> None:
        super().__init__()
        self.bottom_up = ResNet(config)
        self.average = config.fpn_fuse == "avg"
        for index in range(4):
            lateral = Conv(config.res2_channels * 2**index, config.fpn_channels, 1, norm=config.fpn_norm)
            output = Conv(config.fpn_channels, config.fpn_channels, 3, norm=config.fpn_norm)
            for conv in (lateral, output):
                nn.init.kaiming_uniform_(conv.weight, a=1)
            self.add_module(f"fpn_lateral{index + 2}", lateral)
            self.add_module(f"fpn_output{index + 2}", output)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(N, 3, H, W) → p2 to p5 by name, each (N, D, H / stride, W / stride)."""
        below = self.bottom_up(x)
        merged: Tensor | None = None
        pyramid = {}
        for level in (5, 4, 3, 2):
            lateral = self.get_submodule(f"fpn_lateral{level}")(below[f"res{level}"])
            if merged is None:
                merged = lateral
            else:
                merged = lateral + functional.interpolate(merged, size=lateral.shape[-2:], mode="nearest")
                if self.average:
                    merged = merged / 2
            pyramid[f"p{level}"] = self.get_submodule(f"fpn_output{level}")(merged)
        return pyramid


class CoarseHead(nn.Module):
    """Semantic FPN: every level brought to the common stride and summed (detectron2's ``SemSegFPNHead``)."""

    def __init__(self, config: PointRendConfig) -> None:
        super().__init__()
        self.features = config.head_features
        for name in self.features:
            steps = (STRIDES[name] // config.common_stride).bit_length() - 1
            layers: list[nn.Module] = []
            for step in range(max(steps, 1)):
                channels_in = config.fpn_channels if step == 0 else config.head_channels
                layers.append(Conv(channels_in, config.head_channels, 3, norm=config.head_norm, relu=True))
                if STRIDES[name] != config.common_stride:
                    layers.append(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False))
            self.add_module(name, nn.Sequential(*layers))
        self.predictor = Conv(config.head_channels, config.classes, 1)

    def forward(self, features: dict[str, Tensor]) -> Tensor:
        """Logits (N, C, H / 4, W / 4)."""
        total = self.get_submodule(self.features[0])(features[self.features[0]])
        for name in self.features[1:]:
            total = total + self.get_submodule(name)(features[name])
        logits: Tensor = self.predictor(total)
        return logits


class PointHead(nn.Module):
    """Perceptron over single points (detectron2's ``StandardPointHead``)."""

    def __init__(self, config: PointRendConfig) -> None:
        super().__init__()
        self.each_layer = config.coarse_each_layer
        width = config.fpn_channels * len(config.point_features) + config.classes
        self.count = config.fc_count
        for index in range(config.fc_count):
            layer = nn.Conv1d(width, config.fc_dim, 1)
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
            self.add_module(f"fc{index + 1}", layer)
            width = config.fc_dim + (config.classes if self.each_layer else 0)
        self.predictor = nn.Conv1d(width, config.classes, 1)
        nn.init.normal_(self.predictor.weight, std=0.001)
        nn.init.zeros_(self.predictor.bias)  # type: ignore[arg-type]

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Logits (N, C, P) from fine features (N, D, P) and coarse logits (N, C, P)."""
        x = torch.cat([fine, coarse], dim=1)
        for index in range(self.count):
            x = functional.relu(_pointwise(self.get_submodule(f"fc{index + 1}"), x))
            if self.each_layer:
                x = torch.cat([x, coarse], dim=1)
        return _pointwise(self.predictor, x)


class PointRendHead(nn.Module):
    """The coarse head, the point head, and the way from one to the other."""

    def __init__(self, config: PointRendConfig) -> None:
        super().__init__()
        self.coarse_sem_seg_head = CoarseHead(config)
        self.point_head = PointHead(config)
        self.config = config

    def at_points(self, features: dict[str, Tensor], coarse: Tensor, points: Tensor) -> Tensor:
        """Logits (N, C, P) at ``points`` (N, P, 2)."""
        fine = torch.cat(
            [sample_points(features[name], points) for name in self.config.point_features], dim=1
        )
        logits: Tensor = self.point_head(fine, sample_points(coarse, points))
        return logits

    def refine(self, features: dict[str, Tensor], coarse: Tensor) -> Tensor:
        """Adaptive subdivision (section 3.1): twice as fine each step, uncertain points predicted anew."""
        logits = coarse
        for _ in range(self.config.subdivision_steps):
            logits = functional.interpolate(logits, scale_factor=2, mode="bilinear", align_corners=False)
            batch, classes, height, width = logits.shape
            count = min(self.config.subdivision_points, height * width)
            index = uncertainty(logits).flatten(1).topk(count, dim=1).indices
            columns, rows = index % width, torch.div(index, width, rounding_mode="floor")
            points = torch.stack([(columns + 0.5) / width, (rows + 0.5) / height], dim=2).to(coarse.dtype)
            values = self.at_points(features, coarse, points).to(logits.dtype)
            flat = logits.reshape(batch, classes, height * width)
            logits = flat.scatter(2, index[:, None].expand(-1, classes, -1), values)
            logits = logits.view(batch, classes, height, width)
        return logits


class PointRend(nn.Module):
    """The whole network.

    Parameters
    ----------
    config
        What to build.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, config: PointRendConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = FeaturePyramid(config)
        self.sem_seg_head = PointRendHead(config)
        self.register_buffer("pixel_mean", torch.tensor(config.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(config.std).view(3, 1, 1), persistent=False)

    def coarse(self, bgr: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Pyramid features and coarse logits (N, C, H / 4, W / 4) of float BGR (N, 3, H, W) in [0, 255]."""
        features = self.backbone((bgr - self.pixel_mean) / self.pixel_std)
        return features, self.sem_seg_head.coarse_sem_seg_head(features)

    def forward(self, bgr: Tensor) -> Tensor:
        """Refined logits (N, C, H, W) of float BGR (N, 3, H, W) in [0, 255], H and W multiples of 32."""
        features, coarse = self.coarse(bgr)
        return self.sem_seg_head.refine(features, coarse)


def channels_last(model: PointRend) -> PointRend:
    """The same model with its convolutions laid out as CPUs (and tensor cores) run them fastest."""
    for parameter in model.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return model


def _pointwise(layer: nn.Module, x: Tensor) -> Tensor:
    """A 1 × 1 convolution over (N, D, P) as one matrix product: several times faster than Conv1d on a CPU."""
    assert isinstance(layer, nn.Conv1d)
    assert layer.bias is not None
    return torch.matmul(layer.weight[..., 0], x) + layer.bias[:, None]


def uncertainty(logits: Tensor) -> Tensor:
    """Second-best minus best logit over dim 1: ≤ 0, and 0 where the two best classes tie; (N, …)."""
    best = logits.topk(2, dim=1).values
    return best[:, 1] - best[:, 0]


def sample_points(values: Tensor, points: Tensor, mode: str = "bilinear") -> Tensor:
    """Values (N, D, P) of a map (N, D, H, W) at ``points`` (N, P, 2)."""
    grid = (2.0 * points - 1.0)[:, :, None].to(values.dtype)
    return functional.grid_sample(values, grid, mode=mode, align_corners=False)[..., 0]
