"""Square, upright crops around faces: the frame in which the inpainter works and learns.

A crop is a similarity transform (rotation, one scale, translation), so it inverts exactly and never distorts a lesion.
Lengths inside a face are counted in *spans*: the distance from the middle of the eyes to the middle of the mouth.
On frontal portraits a face oval reaches from 0.8 spans above the eyes to 1.9 below, and 1.1 to either side (median).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from inference.contract import Face, Floats, Image, Mask

FACE_SIDE_SPANS = 3.2
"""Side of the standard face crop, in spans."""
FACE_CENTRE_SPANS = 0.53
"""The crop's centre lies this many spans below the middle of the eyes."""


@dataclass(frozen=True, slots=True, eq=False)
class Crop:
    """A square window of side ``size_px`` on an image.

    Attributes
    ----------
    matrix
        float64 (2, 3): image coordinates (x, y, 1) to crop coordinates, both counted at pixel centres.
    size_px
        Side of the crop in its own pixels.
    """

    matrix: NDArray[np.float64]
    size_px: int

    @property
    def scale(self) -> float:
        """Crop pixels per image pixel."""
        return float(np.hypot(self.matrix[0, 0], self.matrix[1, 0]))

    def take(self, image: Image) -> Image:
        """The crop, uint8 RGB (S, S, 3), of an image (H, W, 3); beyond its border the edge repeats."""
        return self._warp(image, cv2.BORDER_REPLICATE)

    def take_mask(self, mask: Mask) -> Mask:
        """True wherever any part of a True pixel of ``mask`` (H, W), or of what lies outside it, has an influence."""
        soft = self._warp(mask.astype(np.uint8) * 255, cv2.BORDER_CONSTANT)
        return np.asarray(cv2.dilate(soft, np.ones((3, 3), np.uint8)) > 0)

    def take_labels(self, labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The crop, uint8 (S, S), of an index map (H, W), each pixel the nearest one's; 0 beyond its border."""
        area = (self.size_px, self.size_px)
        return np.asarray(cv2.warpAffine(labels, self.matrix, area, flags=cv2.INTER_NEAREST), np.uint8)

    def put(self, crop: Image | Floats, height: int, width: int) -> tuple[NDArray[np.float32], slice, slice]:
        """The crop (S, S, 3) resized back: float32 RGB of the part of the image it covers, and where that is."""
        corners = self.to_image(np.array([[-0.5, -0.5], [self.size_px - 0.5, -0.5], [-0.5, self.size_px - 0.5],
                                          [self.size_px - 0.5, self.size_px - 0.5]]))  # fmt: skip
        x0, y0 = np.clip(np.floor(corners.min(0)).astype(int), 0, [width, height])
        x1, y1 = np.clip(np.ceil(corners.max(0)).astype(int) + 1, 0, [width, height])
        shifted = self.matrix.copy()
        shifted[:, 2] += self.matrix[:, :2] @ np.array([x0, y0], dtype=np.float64)
        patch = cv2.warpAffine(
            crop.astype(np.float32),
            shifted,
            (int(x1 - x0), int(y1 - y0)),
            flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        return np.asarray(patch, np.float32), slice(int(y0), int(y1)), slice(int(x0), int(x1))

    def to_image(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Points (N, 2) of the crop in image coordinates."""
        inverse = cv2.invertAffineTransform(self.matrix)
        return np.asarray(points @ inverse[:, :2].T + inverse[:, 2])

    def _warp(self, array: NDArray[np.uint8], border: int) -> NDArray[np.uint8]:
        # Shrinking needs area averaging, which warpAffine lacks: shrink by the whole factor first.
        factor = int(1 / self.scale) if self.scale < 0.5 else 1
        matrix = self.matrix
        if factor > 1:
            height, width = array.shape[:2]
            padded = cv2.copyMakeBorder(array, 0, -height % factor, 0, -width % factor, border, value=255)
            size = (padded.shape[1] // factor, padded.shape[0] // factor)
            array = np.asarray(cv2.resize(padded, size, interpolation=cv2.INTER_AREA), np.uint8)
            offset = (factor - 1) / 2
            matrix = np.concatenate(
                [matrix[:, :2] * factor, matrix[:, 2:] + matrix[:, :2] @ np.full((2, 1), offset)], axis=1
            )
        warped = cv2.warpAffine(
            array,
            matrix,
            (self.size_px, self.size_px),
            flags=cv2.INTER_LINEAR,
            borderMode=border,
            borderValue=255,
        )
        return np.asarray(warped, np.uint8)


def spans(landmarks: Floats) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Middle of the eyes, and the vector from there to the middle of the mouth, of five landmarks (5, 2)."""
    points = np.asarray(landmarks, np.float64)
    eyes = points[:2].mean(0)
    return eyes, points[3:].mean(0) - eyes


def face_crop(landmarks: Floats, size_px: int, *, side_spans: float = FACE_SIDE_SPANS) -> Crop:
    """The standard upright crop of a face with these five landmarks (5, 2).

    Raises
    ------
    ValueError
        The landmarks coincide, so that no direction can be told.
    """
    eyes, span = spans(landmarks)
    length = float(np.hypot(*span))
    if not length > 1:
        raise ValueError("The five landmarks of the face coincide; it cannot be turned upright.")
    return centred_crop(eyes + span * FACE_CENTRE_SPANS, side_spans * length, span / length, size_px)


def centred_crop(centre: NDArray[np.float64], side: float, down: NDArray[np.float64], size_px: int) -> Crop:
    """The crop of ``side`` image pixels about ``centre``, whose downward direction is the unit vector ``down``."""
    scale = size_px / side
    x, y = down
    linear = np.array([[y, -x], [x, y]]) * scale
    middle = (size_px - 1) / 2
    return Crop(np.concatenate([linear, (middle - linear @ centre)[:, None]], axis=1), size_px)


def covering_crop(crop: Crop, mask: Mask, *, margin: float) -> Crop:
    """``crop``, moved and widened as little as needed so that ``mask`` (H, W) lies inside with a margin.

    ``margin`` is a fraction of the crop's side. An empty mask leaves the crop as it is.
    """
    ys, xs = np.nonzero(mask)
    if not len(ys):
        return crop
    points = np.stack([xs, ys], 1) @ crop.matrix[:, :2].T + crop.matrix[:, 2]
    low, high = points.min(0), points.max(0)
    room = crop.size_px * margin
    centre = np.full(2, (crop.size_px - 1) / 2)
    needed = float((high - low).max()) + 2 * room
    side = max(float(crop.size_px), needed)
    least, most = high + room - side / 2, low - room + side / 2
    centre = np.clip(centre, np.minimum(least, most), np.maximum(least, most))
    down = np.array([crop.matrix[1, 0], crop.matrix[1, 1]]) / crop.scale
    return centred_crop(crop.to_image(centre[None])[0], side / crop.scale, down, crop.size_px)


def crops_for(hide: Mask, faces: Sequence[Face], size_px: int) -> list[Crop]:
    """Crops that together cover ``hide``: one a face, upright, then square ones for what is left."""
    crops = []
    left = hide.astype(np.uint8)
    for face in sorted(faces, key=lambda f: -float(np.hypot(*(f.landmarks[1] - f.landmarks[0])))):
        try:
            crop = face_crop(face.landmarks, size_px)
        except ValueError:
            continue
        near = face_crop(face.landmarks, size_px, side_spans=3.6)
        mine = (left > 0) & within(near, slice(0, hide.shape[0]), slice(0, hide.shape[1]))
        if not mine.any():
            continue
        crop = covering_crop(crop, mine, margin=0.06)
        crops.append(crop)
        left[within(crop, slice(0, hide.shape[0]), slice(0, hide.shape[1]))] = 0
    while left.any():
        count, labels, stats, _ = cv2.connectedComponentsWithStats(left)
        biggest = 1 + int(np.argmax(stats[1:count, cv2.CC_STAT_AREA]))
        mine = labels == biggest
        x, y, width, height = (int(v) for v in stats[biggest, :4])
        side = max(width, height) * 1.4 + 8
        centre = np.array([x + (width - 1) / 2, y + (height - 1) / 2])
        scale = size_px / side
        matrix = np.array(
            [
                [scale, 0, (size_px - 1) / 2 - scale * centre[0]],
                [0, scale, (size_px - 1) / 2 - scale * centre[1]],
            ]
        )
        crop = Crop(matrix, size_px)
        crops.append(crop)
        left[within(crop, slice(0, hide.shape[0]), slice(0, hide.shape[1])) | mine] = 0
    return crops


def within(crop: Crop, rows: slice, columns: slice) -> Mask:
    """Which pixels of that part of the image lie inside the crop, bool (rows, columns)."""
    xs = np.arange(columns.start, columns.stop, dtype=np.float32)[None]
    ys = np.arange(rows.start, rows.stop, dtype=np.float32)[:, None]
    (a, b, c), (d, e, f) = crop.matrix.astype(np.float32)
    last = crop.size_px - 0.5
    u, v = a * xs + b * ys + c, d * xs + e * ys + f
    return np.asarray((u >= -0.5) & (u <= last) & (v >= -0.5) & (v <= last))
