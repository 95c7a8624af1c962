"""Paints several faces and takes the one that looks most like a face: for inpainters whose paintings vary.

The choice sees what the inpainter sees and what it painted, never the hidden pixels. Shape letters: N batch, K
candidates, S the inpainter's square side, T the segmenter's.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from inference.contract import FaceAnalyser, Floats, Image, Inpainter, Mask, Segmenter

FIND_PX = 256
"""Candidates are enlarged to this side before the detector looks: faces of few pixels are found badly."""


@dataclass(frozen=True, slots=True)
class Choosy:
    """Implements :class:`inference.contract.Inpainter` with the best of several paintings of another.

    Attributes
    ----------
    painter
        The inpainter asked.
    candidates
        K, paintings asked for each picture; at least 1.
    segmenter, faces
        Who judges: the bundle's own models.
    features
        The segmenter's classes that show a feature of a face.
    """

    painter: Inpainter
    candidates: int
    segmenter: Segmenter
    faces: FaceAnalyser
    features: tuple[str, ...]

    @property
    def size_px(self) -> int:
        """S, the painter's side."""
        return self.painter.size_px

    def inpaint(self, images: Image, hide: Mask, prompts: Sequence[str], seeds: Sequence[int]) -> Image:
        """The most face-like of K paintings of each picture, uint8 RGB (N, S, S, 3).

        Raises
        ------
        inference.contract.Unavailable
            A model cannot answer now.
        """
        chosen = []
        for image, mask, prompt, seed in zip(images, hide, prompts, seeds, strict=True):
            many = self.candidates
            painted = self.painter.inpaint(
                np.repeat(image[None], many, axis=0),
                np.repeat(mask[None], many, axis=0),
                [prompt] * many,
                [(seed + 1_000_003 * k) % 2**31 for k in range(many)],
            )
            likeness = self._likeness(np.where(mask[..., None], painted, image), mask)
            chosen.append(painted[int(np.argmax(likeness))])
        return np.stack(chosen)

    def _likeness(self, pictures: Image, hide: Mask) -> Floats:
        """How face-like each picture (K, S, S, 3) is under ``hide`` (S, S), in [0, 2]: detector and segmenter.

        The segmenter's share is its certainty, averaged over the features: Σp² / Σp of each one's probabilities p.
        """
        side = self.segmenter.size_px
        scaled = [cv2.resize(one, (side, side), interpolation=cv2.INTER_CUBIC) for one in pictures]
        under = cv2.resize(hide.astype(np.uint8), (side, side), interpolation=cv2.INTER_NEAREST) > 0
        rows = [self.segmenter.classes.index(name) for name in self.features]
        seen = self.segmenter.segment(np.stack(scaled).astype(np.uint8))[:, rows][:, :, under]
        certainty = (seen**2).sum(-1) / np.maximum(seen.sum(-1), 1e-6)
        found = []
        for one in pictures:
            near = cv2.resize(one, (FIND_PX, FIND_PX), interpolation=cv2.INTER_CUBIC)
            found.append(
                max((face.score for face in self.faces.find(np.asarray(near, np.uint8))), default=0.0)
            )
        return np.nan_to_num(np.asarray(certainty.mean(-1) + np.array(found), np.float32), nan=-1.0)
