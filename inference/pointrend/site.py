"""A site's own photographs for the segmenter: read when they are needed, and judged by while it learns.

Shape letters: H × W native size, S the segmenter's square, C classes. Images are uint8 RGB.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import overload

import cv2
import numpy as np
import torch

from inference.contract import CLASSES, Image
from inference.data.manifest import Photograph
from inference.data.pictures import Labels
from inference.pointrend.evaluate import count, quality
from inference.pointrend.letterbox import letterbox
from inference.pointrend.model import PointRend
from inference.pointrend.scenes import Scene

LARGEST_PX = 1024
"""Photographs are kept no larger than this."""
STORED = 256
"""Photographs kept in memory."""
OUTSIDE = 255
"""Label of the bars beside a picture; counts for nothing."""


class SiteScenes(Sequence[Scene]):
    """The photographs of a manifest as scenes, each read when it is asked for."""

    def __init__(self, rows: Sequence[Photograph]) -> None:
        self._rows = list(rows)
        self._scene = lru_cache(maxsize=STORED)(self._read)

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Scene: ...
    @overload
    def __getitem__(self, index: slice) -> list[Scene]: ...

    def __getitem__(self, index: int | slice) -> Scene | list[Scene]:
        """Scene ``index``.

        Raises
        ------
        inference.data.DataError
            Its picture or mask cannot be read.
        """
        if isinstance(index, slice):
            return [self._scene(number) for number in range(len(self))[index]]
        return self._scene(range(len(self))[index])

    def _read(self, number: int) -> Scene:
        image, labels = self._rows[number].read()
        scale = LARGEST_PX / max(labels.shape)
        if scale < 1:
            size = (round(labels.shape[1] * scale), round(labels.shape[0] * scale))
            image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
            labels = np.asarray(cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST), np.uint8)
        return Scene(image, labels)


def squared(scene: Scene, size_px: int) -> tuple[Image, Labels]:
    """A scene in the segmenter's square, (S, S, 3) and (S, S), its bars labelled :data:`OUTSIDE`."""
    square, placed = letterbox(scene.image, size_px)
    labels = np.full((size_px, size_px), OUTSIDE, np.uint8)
    size = (placed.inner_width, placed.inner_height)
    rows, columns = slice(placed.y, placed.y + size[1]), slice(placed.x, placed.x + size[0])
    labels[rows, columns] = cv2.resize(scene.labels, size, interpolation=cv2.INTER_NEAREST)
    return square, labels


def judge(model: PointRend, held_out: Sequence[Scene], size_px: int) -> dict[str, float]:
    """IoU of every class over all pixels of held-out photographs, by name, and ``miou`` over those that occur.

    ``model`` is in evaluation mode; NaN stands for a class that neither occurs nor was found.
    """
    device = model.pixel_mean.device
    joint = np.zeros((len(CLASSES), len(CLASSES)), np.int64)
    with torch.inference_mode():
        for scene in held_out:
            square, labels = squared(scene, size_px)
            rgb = torch.from_numpy(square[None]).to(device).permute(0, 3, 1, 2).float()
            found = model(rgb if model.config.rgb else rgb.flip(1))[0].argmax(0).to(torch.uint8).cpu().numpy()
            known = labels != OUTSIDE
            joint += count(labels[known], found[known])
    iou = quality({"all": joint}).iou
    present = [value for value in iou.values() if not np.isnan(value)]
    return {"miou": float(np.mean(present)) if present else float("nan"), **iou}
