"""A site's photographs as the inpainter learns from them: upright crops about the face, hidden as the gateway hides.

Example i of a run is a pure function of the run's seed and i. Shape letters: N batch, S the pipeline's side, s that of
its latents, P the side of a stored crop.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from inference.contract import CLASSES, Image, Mask
from inference.crops import Crop, centred_crop, face_crop
from inference.data import DataError
from inference.data.manifest import NORMAL, Photograph
from inference.data.pictures import Labels
from inference.inpaint.data import STORE_SPANS, look

LESION, EYE, MOUTH = (CLASSES.index(name) for name in ("lesion", "eye", "mouth"))
STORED = 256
"""Crops kept in memory."""


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """One picture to learn from.

    Attributes
    ----------
    image
        uint8 RGB (S, S, 3).
    hide, lesion
        bool (S, S): what is painted; where the disease is seen.
    prompt, disease
        What the text encoder is told; the disease's name.
    """

    image: Image
    hide: Mask
    lesion: Mask
    prompt: str
    disease: str


def crop_about(labels: Labels, size_px: int) -> Crop:
    """The generous upright crop of the face in a mask (H, W): by its eyes and mouth, else about all that is labelled.

    Raises
    ------
    DataError
        Nothing of a person is labelled.
    """
    eyes, mouth = _middle(labels == EYE), _middle(labels == MOUTH)
    if eyes is not None and mouth is not None:
        points = np.stack([eyes, eyes, (eyes + mouth) / 2, mouth, mouth]).astype(np.float32)
        if float(np.hypot(*(mouth - eyes))) > 4:
            return face_crop(points, size_px, side_spans=STORE_SPANS)
    ys, xs = np.nonzero(labels)
    if not len(ys):
        raise DataError("nothing of a person is labelled")
    side = 1.6 * (max(int(np.ptp(xs)), int(np.ptp(ys))) + 1)
    centre = np.array([(xs.min() + xs.max()) / 2, (ys.min() + ys.max()) / 2])
    return centred_crop(centre, float(side), np.array([0.0, 1.0]), size_px)


def _middle(mask: Mask) -> NDArray[np.float64] | None:
    ys, xs = np.nonzero(mask)
    return np.array([xs.mean(), ys.mean()]) if len(ys) else None


class Examples:
    """An endless, repeatable sequence of examples; every photograph is met once before one is met again.

    Parameters
    ----------
    rows
        Photographs of one split.
    size_px
        S.
    seed
        Of the run.
    prompt
        What is told of every picture; " showing psoriasis" follows where there is a disease. One in ten is told
        nothing, so that guidance has something to compare with.

    Raises
    ------
    DataError
        There is no photograph.
    """

    def __init__(self, rows: Sequence[Photograph], size_px: int, seed: int, prompt: str) -> None:
        if not rows:
            raise DataError("there is no photograph to learn from")
        self._rows, self._size_px, self._seed, self._prompt = list(rows), size_px, seed, prompt
        self._stored = lru_cache(maxsize=STORED)(self._store)
        self._order = lru_cache(maxsize=2)(
            lambda epoch: np.random.default_rng([seed, epoch, 0]).permutation(len(self._rows))
        )

    def _store(self, number: int) -> tuple[Image, Labels]:
        image, labels = self._rows[number].read()
        try:
            crop = crop_about(labels, 2 * self._size_px)
        except DataError as error:
            raise DataError(f"{self._rows[number].mask.name}: {error}; take the photograph out.") from error
        return crop.take(image), crop.take_labels(labels)

    def __getitem__(self, index: int) -> Example:
        """Example ``index``, 0 or more."""
        epoch, place = divmod(index, len(self._rows))
        number = int(self._order(epoch)[place])
        image, labels = self._stored(number)
        draw = np.random.default_rng([self._seed, index, 1])
        seen = look(image, labels, labels == LESION, self._size_px, draw)
        row = self._rows[number]
        told = self._prompt if row.disease == NORMAL else f"{self._prompt} showing {row.disease}"
        prompt = "" if draw.random() < 0.1 else told
        return Example(seen.image, seen.hide, seen.lesion, prompt, row.disease)
