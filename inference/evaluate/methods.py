"""What a method is, and those that need no weights: none, blurring, black bar, masking, pixelation and k-same.

Each covers the whole labelled face (:attr:`inference.evaluate.scene.Scene.face`) the way it is usually done, lesions
included. Shape letters: H × W native size, S side of an upright crop, N pictures.
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import Protocol

import cv2
import numpy as np

from inference.contract import Image
from inference.data.manifest import Photograph
from inference.evaluate.scene import Scene, open_scene

BLUR = 10
"""Face widths to one standard deviation of the blur."""
BLOCKS = 12
"""Blocks across a pixelated face."""
K = 5
"""Faces of which k-same makes one."""
K_SAME_PX = 128
"""Side of the upright crops that k-same compares and averages."""


class Withheld(Exception):
    """The method gives nothing out for a photograph; the text is one word that says why."""


class Method(Protocol):
    """One way to anonymise a photograph."""

    @property
    def name(self) -> str:
        """As ``--methods`` and the report call it."""

    @property
    def fingerprint(self) -> str:
        """Changes whenever a result could: parameters and digests of weights."""

    def prepare(self, photographs: Sequence[Photograph]) -> None:
        """Look at all photographs that will be anonymised, where the method needs to."""

    def apply(self, scene: Scene) -> Image:
        """The anonymised picture, uint8 RGB (H, W, 3).

        Raises
        ------
        Withheld
            Nobody gets this one.
        inference.contract.Unavailable
            A model cannot answer now.
        """


class Plain:
    """A method that is a function of one scene."""

    def __init__(self, name: str, change: Callable[[Scene], Image], parameters: str = "") -> None:
        self.name = name
        self.fingerprint = f"{name} {parameters}".strip()
        self._change = change

    def prepare(self, photographs: Sequence[Photograph]) -> None:
        """Nothing to look at."""

    def apply(self, scene: Scene) -> Image:
        """The anonymised picture; see :class:`Method`."""
        return self._change(scene)


def unchanged(scene: Scene) -> Image:
    """The photograph itself: what every other method is compared with."""
    return scene.image.copy()


def blurred(scene: Scene) -> Image:
    """The face under a Gaussian blur of a tenth of its width."""
    soft = cv2.GaussianBlur(scene.image, (0, 0), scene.face_width_px / BLUR)
    return np.where(scene.face[..., None], np.asarray(soft, np.uint8), scene.image)


def masked(scene: Scene) -> Image:
    """The face black."""
    return np.where(scene.face[..., None], np.uint8(0), scene.image)


def pixelated(scene: Scene) -> Image:
    """The face in square blocks, twelve across, each of its mean colour."""
    block = max(2, round(scene.face_width_px / BLOCKS))
    height, width = scene.image.shape[:2]
    padded = cv2.copyMakeBorder(scene.image, 0, -height % block, 0, -width % block, cv2.BORDER_REPLICATE)
    size = (padded.shape[1] // block, padded.shape[0] // block)
    coarse = cv2.resize(padded, size, interpolation=cv2.INTER_AREA)
    blocks = np.repeat(np.repeat(coarse, block, 0), block, 1)[:height, :width]
    return np.where(scene.face[..., None], np.asarray(blocks, np.uint8), scene.image)


def black_bar(scene: Scene) -> Image:
    """A black bar across the eyes, as archives often have it; nothing where no eyes are labelled."""
    result = scene.image.copy()
    eyes, mouth = scene.middle_of("eye"), scene.middle_of("mouth")
    if eyes is None:
        return result
    # Without a mouth to tell the direction, an upright face of usual proportions is taken.
    span = np.array([0.0, 0.45 * scene.face_width_px]) if mouth is None else mouth - eyes
    length = float(np.hypot(*span))
    angle = float(np.degrees(np.arctan2(-span[0], span[1])))
    box = ((float(eyes[0]), float(eyes[1])), (2.3 * length, 0.6 * length), angle)
    cv2.fillPoly(result, [np.rint(cv2.boxPoints(box)).astype(np.int32)], (0, 0, 0))
    return result


class KSame:
    """k-Same-Pixel (Newton, Sweeney and Malin, 2005): every face becomes the mean of k faces.

    Faces are compared and averaged as upright crops. A face whose eyes or mouth are not labelled cannot be brought
    upright and is masked.

    Parameters
    ----------
    k
        Faces a group has at least, where there are as many.
    """

    name = "k-same"

    def __init__(self, k: int = K) -> None:
        self._k = k
        self._group: dict[str, int] = {}
        self._means: list[Image] = []
        self.fingerprint = f"k-same k {k}"

    def prepare(self, photographs: Sequence[Photograph]) -> None:
        """Group all faces and average each group."""
        names, crops, seen = [], [], hashlib.sha256()
        for photograph in photographs:
            scene = open_scene(photograph)
            seen.update(scene.digest.encode())
            crop = scene.upright(K_SAME_PX)
            if crop is not None:
                names.append(scene.name)
                crops.append(crop.take(scene.image))
        self.fingerprint = f"k-same k {self._k} of {seen.hexdigest()}"
        faces = (
            np.stack(crops).astype(np.float32)
            if crops
            else np.zeros((0, K_SAME_PX, K_SAME_PX, 3), np.float32)
        )
        self._group, self._means = {}, []
        for members in groups(faces.reshape(len(faces), -1), self._k):
            for index in members:
                self._group[names[index]] = len(self._means)
            self._means.append(np.rint(faces[members].mean(0)).astype(np.uint8))

    def apply(self, scene: Scene) -> Image:
        """The face as the mean of its group; see :class:`Method`."""
        crop, group = scene.upright(K_SAME_PX), self._group.get(scene.name)
        result = masked(scene)
        if crop is None or group is None:
            return result
        patch, rows, columns = crop.put(self._means[group], *scene.image.shape[:2])
        inside = scene.face[rows, columns]
        result[rows, columns][inside] = np.clip(np.rint(patch[inside]), 0, 255).astype(np.uint8)
        return result


def groups(vectors: np.ndarray[tuple[int, ...], np.dtype[np.float32]], k: int) -> list[list[int]]:
    """Greedy groups of k: the first vector (N, D) left and those nearest to it; fewer than 2 k left are one group."""
    left = list(range(len(vectors)))
    made = []
    while left:
        if len(left) < 2 * k:
            made.append(left)
            break
        distances = np.square(vectors[left] - vectors[left[0]]).sum(1)
        chosen = [left[index] for index in np.argsort(distances, kind="stable")[:k]]
        made.append(chosen)
        left = [index for index in left if index not in set(chosen)]
    return made


def simple() -> dict[str, Callable[[], Method]]:
    """The methods that need no weights, by name."""
    return {
        "none": lambda: Plain("none", unchanged),
        "blurring": lambda: Plain("blurring", blurred, f"width/{BLUR}"),
        "black-bar": lambda: Plain("black-bar", black_bar),
        "masking": lambda: Plain("masking", masked),
        "pixelation": lambda: Plain("pixelation", pixelated, f"{BLOCKS} blocks"),
        "k-same": KSame,
    }
