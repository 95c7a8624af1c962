"""What PointRend is trained by: cross entropy of the coarse map, and at points where the model is unsure.

Shape letters: N batch, C classes, H × W labels, P points.
"""

import torch
from torch import Tensor
from torch.nn import functional

from inference.pointrend.model import PointRend, sample_points, uncertainty


def uncertain_points(
    logits: Tensor, count: int, oversample: float, share: float, source: torch.Generator
) -> Tensor:
    """Points (N, P, 2) to train on (PointRend, section 3.1).

    Of ``oversample`` times ``count`` random points (k in the paper) the most uncertain ``share`` (β) is
    taken, and the rest is drawn anew at random.
    """
    batch = logits.shape[0]
    many = torch.rand(batch, int(count * oversample), 2, generator=source).to(logits.device)
    unsure = uncertainty(sample_points(logits, many))
    important = int(count * share)
    index = unsure.topk(important, dim=1).indices
    chosen = many.gather(1, index[..., None].expand(-1, -1, 2))
    rest = torch.rand(batch, count - important, 2, generator=source).to(logits.device)
    return torch.cat([chosen, rest], dim=1)


def pointrend_losses(
    model: PointRend, bgr: Tensor, labels: Tensor, class_weights: Tensor, source: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Coarse and point-wise loss of one batch.

    The coarse logits are compared at half resolution, where detectron2 compares at full: much the same
    gradient at a quarter of the cost, since the points see the full resolution anyway.

    Parameters
    ----------
    model
        In training mode.
    bgr
        float (N, 3, H, W) in [0, 255].
    labels
        int64 (N, H, W); the configuration's ``ignore`` is left out.
    class_weights
        float (C,): what a pixel of each class counts.
    source
        Where points are drawn from.
    """
    config = model.config
    features, coarse = model.coarse(bgr)
    half = functional.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)
    coarse_loss = functional.cross_entropy(
        half, labels[:, ::2, ::2], class_weights, ignore_index=config.ignore
    )
    with torch.no_grad():
        points = uncertain_points(coarse, config.train_points, config.oversample, config.importance, source)
        target = sample_points(labels[:, None].float(), points, mode="nearest")[:, 0].long()
    logits = model.sem_seg_head.at_points(features, coarse, points)
    point_loss = functional.cross_entropy(logits, target, class_weights, ignore_index=config.ignore)
    return coarse_loss, point_loss
