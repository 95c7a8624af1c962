"""Known pixels carried over into unknown ones, smoothly: push-pull, coarse to fine.

Shape letters: H × W picture, S a crop's side. What stands under a mask never has an influence.
"""

import cv2
import numpy as np

from inference.contract import Floats, Image, Mask

WIDEST_PX = 512
"""Longer sides are filled at this size: there is nothing fine in a fill."""
FADE = 0.08
"""How far inside the outline of what is painted it fades into what surrounds it, a share of the crop's side."""


def erased(image: Image, mask: Mask) -> Image:
    """A copy of an image, uint8 RGB (H, W, 3), with what is under ``mask`` (H, W) filled from around it.

    Outside ``mask`` it is the image, bit for bit.
    """
    result = image.copy()
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    for one in range(1, count):
        x, y, width, height = (int(v) for v in stats[one, :4])
        room = max(4, min(width, height) // 2)
        rows = slice(max(0, y - room), y + height + room)
        columns = slice(max(0, x - room), x + width + room)
        part = result[rows, columns]
        fill = _filled(image[rows, columns], mask[rows, columns])
        mine = labels[rows, columns] == one
        part[mine] = fill[mine]
    return result


def _filled(image: Image, mask: Mask) -> Image:
    height, width = mask.shape
    known = (~mask).astype(np.float32)
    values = image.astype(np.float32) * known[..., None]
    scale = min(1.0, WIDEST_PX / max(height, width))
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        share = np.asarray(cv2.resize(known, size, interpolation=cv2.INTER_AREA), np.float32)
        values = cv2.resize(values, size, interpolation=cv2.INTER_AREA) / np.maximum(share, 1e-6)[..., None]
        known = (share > 1e-3).astype(np.float32)
    smooth = cv2.resize(
        spread_out(np.asarray(values, np.float32), known), (width, height), interpolation=cv2.INTER_LINEAR
    )
    return np.clip(np.rint(smooth), 0, 255).astype(np.uint8)


def matched(answer: Image, view: Image, mask: Mask) -> Floats:
    """The painted crop (S, S, 3) with its colours carried over from the known ring, float32.

    The difference between known and painted pixels is spread smoothly into the hidden part, coarse to fine
    (push-pull), which leaves no step at the seam and shifts the tone of the whole face.
    """
    painted = answer.astype(np.float32)
    known = (~mask).astype(np.float32)
    if not known.any():
        return painted
    difference = np.clip(view.astype(np.float32) - painted, -48, 48)
    return painted + spread_out(difference, known)


def faded(painted: Floats, view: Image, around: Mask) -> Floats:
    """The painted crop (S, S, 3), float32, whose outermost part fades into what surrounds it, without a step.

    Parameters
    ----------
    painted, view
        New pixels, and the crop (S, S, 3) without what is hidden.
    around
        bool (S, S): neither painted nor a kept lesion. Nothing else of ``view`` has an influence: the redness of a
        lesion would spread.
    """
    if not around.any() or around.all():
        return painted
    known = around.astype(np.float32)
    fill = spread_out(np.asarray(view * known[..., None], np.float32), known)
    inside = (~around).astype(np.uint8)
    depth = cv2.distanceTransform(inside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    count, labels = cv2.connectedComponents(inside)
    deepest = np.array([depth[labels == one].max() for one in range(count)], np.float32)
    band = np.minimum(FADE * around.shape[0], deepest / 2)  # half of something small is painted all the same
    share = np.clip(depth / np.maximum(band, 1e-6)[labels], 0, 1)
    share = (share * share * (3 - 2 * share))[..., None]
    return np.asarray(painted * share + fill * (1 - share), np.float32)


def spread_out(values: Floats, weight: Floats) -> Floats:
    """Values (h, w, C) where ``weight`` (h, w), in [0, 1], is 1, and a smooth continuation of them where it is 0."""
    if min(values.shape[:2]) <= 2:
        total = float(weight.sum())
        mean = (values * weight[..., None]).sum((0, 1)) / max(total, 1e-6)
        return np.broadcast_to(mean, values.shape).astype(np.float32)
    height, width = values.shape[:2]
    size = ((width + 1) // 2, (height + 1) // 2)
    small_weight = cv2.resize(weight, size, interpolation=cv2.INTER_AREA)
    summed = cv2.resize(values * weight[..., None], size, interpolation=cv2.INTER_AREA)
    means = np.asarray(summed / np.maximum(small_weight, 1e-6)[..., None], np.float32)
    coarse = spread_out(means, np.asarray(np.minimum(small_weight * 4, 1), np.float32))
    back = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(values * weight[..., None] + back * (1 - weight[..., None]), np.float32)
