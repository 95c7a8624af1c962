"""Building blocks whose parameters are named as detectron2 names them.

Shape letters: N batch, C channels, H × W.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


class FrozenBatchNorm(nn.Module):
    """Batch normalisation with fixed statistics and affine parameters, (N, C, H, W) → same."""

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.register_buffer("weight", torch.ones(channels))
        self.register_buffer("bias", torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels) - eps)

    def forward(self, x: Tensor) -> Tensor:
        """Normalises."""
        return functional.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, training=False, eps=self.eps
        )


def norm_layer(kind: str, channels: int) -> nn.Module | None:
    """The normalisation that detectron2 calls ``kind``, or ``None`` for the empty string.

    Raises
    ------
    ValueError
        An unknown kind.
    """
    if kind == "":
        return None
    if kind in ("BN", "SyncBN", "nnSyncBN", "naiveSyncBN"):
        return nn.BatchNorm2d(channels)
    if kind == "FrozenBN":
        return FrozenBatchNorm(channels)
    if kind == "GN":
        return nn.GroupNorm(32, channels)
    raise ValueError(f"unknown normalisation {kind!r}")


class Conv(nn.Conv2d):
    """A convolution with its normalisation (``.norm``) and, where asked for, a ReLU behind it."""

    def __init__(  # noqa: PLR0913 - the seven numbers of a convolution
        self,
        channels_in: int,
        channels_out: int,
        kernel: int,
        *,
        stride: int = 1,
        groups: int = 1,
        norm: str = "",
        relu: bool = False,
    ) -> None:
        super().__init__(
            channels_in, channels_out, kernel, stride, kernel // 2, groups=groups, bias=norm == ""
        )
        self.norm = norm_layer(norm, channels_out)
        self.relu = relu
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Convolves, normalises, rectifies."""
        x = super().forward(x)
        if self.norm is not None:
            x = self.norm(x)
        return functional.relu(x, inplace=True) if self.relu else x


class BasicBlock(nn.Module):
    """Two 3 × 3 convolutions around a shortcut (depths 18 and 34)."""

    def __init__(self, channels_in: int, channels_out: int, *, stride: int, norm: str) -> None:
        super().__init__()
        self.shortcut = (
            Conv(channels_in, channels_out, 1, stride=stride, norm=norm)
            if channels_in != channels_out
            else None
        )
        self.conv1 = Conv(channels_in, channels_out, 3, stride=stride, norm=norm, relu=True)
        self.conv2 = Conv(channels_out, channels_out, 3, norm=norm)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → (N, C', H / stride, W / stride)."""
        around = x if self.shortcut is None else self.shortcut(x)
        return functional.relu(self.conv2(self.conv1(x)) + around)


class BottleneckBlock(nn.Module):
    """1 × 1, 3 × 3, 1 × 1 around a shortcut (depths 50 and up)."""

    def __init__(  # noqa: PLR0913 - as detectron2 builds it
        self,
        channels_in: int,
        channels_out: int,
        *,
        middle: int,
        stride: int,
        groups: int,
        stride_in_1x1: bool,
        norm: str,
    ) -> None:
        super().__init__()
        first, second = (stride, 1) if stride_in_1x1 else (1, stride)
        self.shortcut = (
            Conv(channels_in, channels_out, 1, stride=stride, norm=norm)
            if channels_in != channels_out
            else None
        )
        self.conv1 = Conv(channels_in, middle, 1, stride=first, norm=norm, relu=True)
        self.conv2 = Conv(middle, middle, 3, stride=second, groups=groups, norm=norm, relu=True)
        self.conv3 = Conv(middle, channels_out, 1, norm=norm)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → (N, C', H / stride, W / stride)."""
        around = x if self.shortcut is None else self.shortcut(x)
        return functional.relu(self.conv3(self.conv2(self.conv1(x))) + around)
