"""One photograph as every method and every metric gets it: the picture and what is known to be on it.

Shape letters: H × W native size, S side of a view. Images are uint8 RGB; labels index
:data:`inference.contract.CLASSES`.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from inference.contract import CLASSES, Floats, Image, Mask
from inference.crops import Crop, centred_crop, face_crop
from inference.data.manifest import Photograph
from inference.data.pictures import Labels

LESION = CLASSES.index("lesion")
VIEW_MARGIN = 0.1
"""Space about the face in a view, as a share of the face's longer side."""
FACE_MARGIN = 0.05
"""The face is taken this much larger than its labels, as a share of its width."""


@dataclass(frozen=True, eq=False)
class Scene:
    """One photograph with its labels.

    Attributes
    ----------
    photograph
        Its row of the manifest.
    image
        uint8 RGB (H, W, 3).
    labels
        uint8 (H, W).
    """

    photograph: Photograph
    image: Image
    labels: Labels

    @property
    def name(self) -> str:
        """The photograph's, which no other in the manifest has."""
        return self.photograph.name

    @property
    def seed(self) -> int:
        """A number in [0, 2³¹) that depends on the name alone."""
        return int.from_bytes(hashlib.sha256(self.name.encode()).digest()[:4], "big") >> 1

    @property
    def digest(self) -> str:
        """SHA-256 of picture and labels, hexadecimal."""
        return hashlib.sha256(self.image.tobytes() + self.labels.tobytes()).hexdigest()

    @cached_property
    def lesion(self) -> Mask:
        """Lesion pixels, bool (H, W)."""
        return np.asarray(self.labels == LESION)

    @cached_property
    def face(self) -> Mask:
        """The whole face, lesions on it included, bool (H, W): its labels without holes, and a margin."""
        seen = (self.labels > 0).astype(np.uint8)
        if not seen.any():
            return seen > 0
        outlines, _ = cv2.findContours(seen, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        whole = cv2.drawContours(np.zeros_like(seen), outlines, -1, 1, -1)
        radius = max(1, round(FACE_MARGIN * self.face_width_px))
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
        return np.asarray(cv2.dilate(whole, disc) > 0)

    @property
    def face_width_px(self) -> int:
        """Width of what is labelled; the picture's where nothing is."""
        columns = np.flatnonzero((self.labels > 0).any(0))
        return int(np.ptp(columns)) + 1 if columns.size else self.labels.shape[1]

    def view(self, size_px: int) -> Crop:
        """The upright square about what is labelled; about the whole picture where nothing is."""
        ys, xs = np.nonzero(self.labels)
        if not ys.size:
            ys, xs = np.array([0, self.labels.shape[0] - 1]), np.array([0, self.labels.shape[1] - 1])
        low, high = np.array([xs.min(), ys.min()]), np.array([xs.max(), ys.max()])
        side = float((high - low).max() + 1) * (1 + 2 * VIEW_MARGIN)
        return centred_crop((low + high) / 2, side, np.array([0.0, 1.0]), size_px)

    def middle_of(self, *names: str) -> NDArray[np.float64] | None:
        """Mean position (2,), x and y, of the pixels of these classes; None where there is none."""
        ys, xs = np.nonzero(np.isin(self.labels, [CLASSES.index(name) for name in names]))
        return np.array([xs.mean(), ys.mean()]) if ys.size else None

    def upright(self, size_px: int) -> Crop | None:
        """The standard crop of the face by its labelled eyes and mouth; None where they are not labelled."""
        eyes, mouth = self.middle_of("eye"), self.middle_of("mouth")
        if eyes is None or mouth is None or not np.hypot(*(mouth - eyes)) > 4:
            return None
        points: Floats = np.stack([eyes, eyes, eyes, mouth, mouth]).astype(np.float32)
        return face_crop(points, size_px)


def open_scene(photograph: Photograph) -> Scene:
    """Read a photograph and its mask.

    Raises
    ------
    inference.data.manifest.DataError
        One of them cannot be read, or they differ in size.
    """
    image, labels = photograph.read()
    return Scene(photograph, image, labels)
