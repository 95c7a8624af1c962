"""How different two pictures of faces look to a network that knows the parts of a face: the bundle's own segmenter.

The distance is LPIPS' (Zhang 2018, Eq. 1) without its learnt weights, on the backbone of a PointRend that was trained
to tell brow, eye, nose, mouth and lesion apart; it is a training loss and goes under no other name.
"""

from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor, nn

from inference.pointrend.config import PointRendConfig
from inference.pointrend.model import PointRend, channels_last
from inference.pointrend.weights import load_weights


class Perception(nn.Module):
    """Perceptual distance of pictures float32 (N, 3, S, S) in [−1, 1], S a multiple of 16.

    Parameters
    ----------
    folder
        The segmenter's folder in a bundle: ``config.yaml`` and ``model.safetensors``.

    Raises
    ------
    OSError
        The folder holds no segmenter.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, folder: Path) -> None:
        super().__init__()
        model = PointRend(PointRendConfig.from_yaml(folder / "config.yaml"))
        load_weights(model, folder / "model.safetensors")
        self.register_buffer("mean", model.pixel_mean.clone())
        self.register_buffer("std", model.pixel_std.clone())
        self.backbone = channels_last(model).backbone.bottom_up
        self.requires_grad_(False).eval()

    def features(self, pictures: Tensor) -> list[Tensor]:
        """Features of every level, each position scaled to unit length; pictures are looked at twice as near."""
        near = F.interpolate(pictures, scale_factor=2.0, mode="bilinear")
        bgr = ((near.flip(1) + 1) * 127.5 - self.mean) / self.std
        levels = self.backbone(bgr.contiguous(memory_format=torch.channels_last))
        return [F.normalize(level, dim=1) for level in levels.values()]

    def forward(self, painted: Tensor, target: Tensor) -> Tensor:
        """Mean squared distance of unit features, summed over channels and levels; ≥ 0, 0 for equal pictures."""
        painted, target = moved(painted, target)
        with torch.no_grad():
            known = self.features(target)
        return torch.stack(
            [(a - b).square().sum(1).mean() for a, b in zip(self.features(painted), known, strict=True)]
        ).sum()


def moved(*batches: Tensor) -> tuple[Tensor, ...]:
    """Batches of pictures moved by one random offset, what leaves at one side coming in at the other.

    A network that steps over pixels judges some of them more than others; where its grid lies by chance, it cannot
    print itself into what it teaches.
    """
    down, right = torch.randint(16, (2,)).tolist()
    return tuple(batch.roll((down, right), dims=(2, 3)) for batch in batches)
