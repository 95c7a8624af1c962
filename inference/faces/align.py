"""Turn a face upright by its five landmarks, as ArcFace recognisers expect it."""

import cv2
import numpy as np

from inference.contract import Floats, Image

TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]],
    np.float32,
)
"""Where the five landmarks lie in a crop of 112 × 112 (`insightface.utils.face_align.arcface_dst`)."""

SIDE_PX = 112


def similarity(landmarks: Floats, target: Floats) -> Floats:
    """The turn, uniform scale and shift that bring one set of points closest to another.

    Umeyama, "Least-squares estimation of transformation parameters between two point patterns" (1991), Eq.
    40–42, in the plane and without reflection, where it has a closed form in complex numbers.

    Parameters
    ----------
    landmarks, target
        float32 (P, 2), at least two different points.

    Returns
    -------
    float32 (2, 3)
        For ``cv2.warpAffine``.

    Raises
    ------
    ValueError
        The points are not finite, not of shape (P, 2), or all the same.
    """
    points = np.asarray(landmarks, np.float64)
    aims = np.asarray(target, np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or points.shape != aims.shape:
        raise ValueError("landmarks must be an array of shape (5, 2)")
    if not (np.isfinite(points).all() and np.isfinite(aims).all()):
        raise ValueError("landmarks must be finite")
    middle, aim = points.mean(axis=0), aims.mean(axis=0)
    source = (points - middle) @ np.array([1, 1j])
    wanted = (aims - aim) @ np.array([1, 1j])
    spread = float(np.vdot(source, source).real)
    if not spread > 1e-6:
        raise ValueError("landmarks must not all lie in one place")
    turn = np.vdot(source, wanted) / spread
    matrix = np.array([[turn.real, -turn.imag], [turn.imag, turn.real]])
    return np.concatenate([matrix, (aim - matrix @ middle)[:, None]], axis=1).astype(np.float32)


def crop(image: Image, landmarks: Floats, *, margin_px: int = 0) -> Image:
    """The aligned face, uint8 of the input's channels, black where the picture ends.

    Parameters
    ----------
    image
        uint8 (H, W, 3), any channel order.
    landmarks
        float32 (5, 2) in pixels of ``image``.
    margin_px
        Widen the crop by this many pixels on every side; without, it is what recognisers take, 112 × 112.

    Raises
    ------
    ValueError
        The landmarks cannot be aligned.
    """
    matrix = similarity(landmarks, TEMPLATE + margin_px)
    side = SIDE_PX + 2 * margin_px
    return np.asarray(cv2.warpAffine(image, matrix, (side, side), borderValue=(0, 0, 0)), np.uint8)


def covered(height: int, width: int, landmarks: Floats) -> float:
    """Share in [0, 1] of the aligned crop that lies inside a picture of this size.

    Raises
    ------
    ValueError
        The landmarks cannot be aligned.
    """
    matrix = similarity(landmarks, TEMPLATE).astype(np.float64)
    back = np.linalg.inv(matrix[:, :2])
    # A coarse grid is enough for a share, and needs no picture.
    down, across = np.mgrid[2:SIDE_PX:4, 2:SIDE_PX:4]
    points = (np.stack([across, down], axis=-1).reshape(-1, 2) - matrix[:, 2]) @ back.T
    inside = (points >= 0).all(axis=1) & (points[:, 0] < width) & (points[:, 1] < height)
    return float(inside.mean())
