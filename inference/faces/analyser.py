"""Finds faces and tells persons apart with a pack of ONNX files that `insightface` runs.

Shape letters: H × W picture, D length of an embedding. Pictures are uint8 RGB; geometry is in pixels of the
picture that was given, x before y.
"""

import io
import warnings
from collections.abc import Iterable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from inference.contract import Face, Floats, Image
from inference.faces import align

LARGEST_PX = 1280
"""Longer pictures are searched at this size; a face of 1 % of the side is 13 pixels then."""

BORDER = 0.5
"""Border around a second look, as a share of the shorter side: detectors miss faces that fill a picture."""

SAME_FACE = 0.4
"""Boxes that overlap by more (intersection over union) are one face."""

LOOKS = ((1.0, 0.0), (1.06, 0.0), (0.94, 0.0), (1.0, 0.05), (1.0, -0.05))
"""How each look at a face takes it: landmarks scaled about their middle, and moved across by a share of the distance
from the eyes to the mouth. An embedding hangs on the last pixel of its alignment; the mean of several does so less."""

LEAST_COVERED = 0.3
"""Share of the aligned crop that must show the picture; less says nothing about the person."""


class PackUnusable(Exception):
    """The folder is no face pack that can be used; the message says what is missing."""


@dataclass(frozen=True, slots=True, eq=False)
class _View:
    """A copy of the picture to search; ``matrix`` (2, 3) takes its points back to the picture's."""

    image: Image
    matrix: Floats


def _identity() -> Floats:
    return np.array([[1, 0, 0], [0, 1, 0]], np.float32)


def _back(points: Floats, matrix: Floats) -> Floats:
    return np.asarray(points @ matrix[:, :2].T + matrix[:, 2], np.float32)


def _shrunk(view: _View) -> _View:
    height, width = view.image.shape[:2]
    if max(height, width) <= LARGEST_PX:
        return view
    factor = LARGEST_PX / max(height, width)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    small = np.asarray(cv2.resize(view.image, size, interpolation=cv2.INTER_AREA), np.uint8)
    scale = np.diag([width / size[0], height / size[1]]).astype(np.float32)
    return _View(small, np.concatenate([scale, np.zeros((2, 1), np.float32)], axis=1))


def _bordered(view: _View, down_px: int, across_px: int) -> _View:
    """The view with a border of its median colour, above and below, left and right."""
    colour = [float(each) for each in np.median(view.image[::4, ::4].reshape(-1, 3), axis=0)]
    wide = cv2.copyMakeBorder(
        view.image, down_px, down_px, across_px, across_px, cv2.BORDER_CONSTANT, value=colour
    )
    matrix = view.matrix.copy()
    matrix[:, 2] -= matrix[:, :2] @ np.array([across_px, down_px], np.float32)
    return _View(np.asarray(wide, np.uint8), matrix)


def _square_enough(view: _View) -> _View:
    """Pictures like a stripe get a border, because they would shrink to nothing inside the detector."""
    height, width = view.image.shape[:2]
    wanted = -(-max(height, width) // 16)
    if min(height, width) >= wanted:
        return view
    return _bordered(view, max(0, wanted - height), max(0, wanted - width))


def _turned(view: _View, quarters: int) -> _View:
    """The view turned counter-clockwise by quarters of a circle."""
    height, width = view.image.shape[:2]
    # Where the turned view's pixel (x, y) comes from, for 1, 2 and 3 quarters.
    ways = {
        1: [[0, -1, width - 1], [1, 0, 0]],
        2: [[-1, 0, width - 1], [0, -1, height - 1]],
        3: [[0, 1, 0], [-1, 0, height - 1]],
    }
    way = np.array(ways[quarters], np.float32)
    linear = view.matrix[:, :2] @ way[:, :2]
    shift = view.matrix[:, :2] @ way[:, 2] + view.matrix[:, 2]
    image = np.ascontiguousarray(np.rot90(view.image, quarters))
    return _View(image, np.concatenate([linear, shift[:, None]], axis=1))


def _overlap(box: Floats, other: Floats) -> float:
    inner = np.minimum(box[2:], other[2:]) - np.maximum(box[:2], other[:2])
    shared = float(np.prod(np.maximum(inner, 0)))
    both = float(np.prod(box[2:] - box[:2]) + np.prod(other[2:] - other[:2]))
    return shared / max(both - shared, 1e-6)


def _distinct(faces: Iterable[Face]) -> list[Face]:
    """Best first, one for each face."""
    kept: list[Face] = []
    for face in sorted(faces, key=lambda each: -each.score):
        if all(_overlap(face.box, other.box) <= SAME_FACE for other in kept):
            kept.append(face)
    return kept


def _moved(landmarks: Floats, scale: float, across: float) -> Floats:
    """Five landmarks (5, 2) as another look takes them."""
    middle = landmarks.mean(0)
    span = landmarks[3:].mean(0) - landmarks[:2].mean(0)
    aside = np.array([span[1], -span[0]]) * across  # a turned face is moved along its own eyes
    return np.asarray((landmarks - middle) * scale + middle + aside, np.float32)


def _unit(embedded: Floats) -> Floats:
    """An embedding (D,) at unit length.

    Raises
    ------
    ValueError
        It has no length, or is not finite.
    """
    length = float(np.linalg.norm(embedded))
    if not (np.isfinite(length) and length > 1e-6):
        raise ValueError("the recogniser gave nothing that can be compared")
    return np.asarray(embedded / np.float32(length), np.float32)


def _load(folder: Path, threads: int, threshold: float) -> Any:
    """`insightface`'s application over the folder, ready on the CPU."""
    if not folder.is_dir():
        raise PackUnusable(f"there is no face pack at {folder}")
    if not any(folder.glob("*.onnx")):
        raise PackUnusable(f"the face pack at {folder} holds no ONNX files")
    try:
        import onnxruntime
        from insightface.app import FaceAnalysis
    except ImportError as error:
        raise PackUnusable("insightface is not installed: install anoskin-gateway[treat]") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        # A library that speaks to standard output would spoil what our commands print there.
        with redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # The folder itself is the name: one that exists is never looked for elsewhere, nor downloaded.
            pack = FaceAnalysis(
                name=str(folder.resolve()),
                root=str(folder.resolve().parent),
                allowed_modules=["detection", "recognition"],
                providers=["CPUExecutionProvider"],
                sess_options=options,
            )
            pack.prepare(ctx_id=-1, det_thresh=threshold)
    except Exception as error:  # whatever a broken file provokes in the libraries below
        raise PackUnusable(f"the face pack at {folder} cannot be loaded") from error
    if not getattr(pack.det_model, "use_kps", False):
        raise PackUnusable(f"the face pack at {folder} has no detector that gives landmarks")
    if "recognition" not in pack.models:
        raise PackUnusable(f"the face pack at {folder} has no recogniser")
    if tuple(pack.models["recognition"].input_size) != (align.SIDE_PX, align.SIDE_PX):
        raise PackUnusable(f"the recogniser of the face pack at {folder} does not take 112 × 112 pixels")
    return pack


class InsightFaceAnalyser:
    """A :class:`inference.contract.FaceAnalyser` over a folder of ONNX files.

    Parameters
    ----------
    folder
        Holds one detector with landmarks (SCRFD or RetinaFace) and one recogniser (ArcFace, 112 × 112).
        Nothing is ever downloaded.
    threads
        Threads of each model.
    threshold
        Least score of a face, in (0, 1).
    doubt
        Least score of what may be a face; ``None`` takes three fifths of the threshold.
    looks
        How many of :data:`LOOKS` an embedding is the mean of; 1 takes the face as it is aligned.

    Raises
    ------
    PackUnusable
        The folder or a file is missing or broken, or `insightface` is not installed.
    ValueError
        There are not that many looks.
    """

    def __init__(
        self,
        folder: Path,
        *,
        threads: int = 1,
        threshold: float = 0.5,
        doubt: float | None = None,
        looks: int = 1,
    ) -> None:
        if not 1 <= looks <= len(LOOKS):
            raise ValueError(f"a face is looked at 1 to {len(LOOKS)} times, not {looks}")
        self._threshold = threshold
        self._looks = LOOKS[:looks]
        self._pack = _load(folder, threads, min(threshold, 0.6 * threshold if doubt is None else doubt))
        self._recogniser = self._pack.models["recognition"]

    def find(self, image: Image, *, thorough: bool = False, doubtful: bool = False) -> list[Face]:
        """Faces in one uint8 RGB (H, W, 3) image, best first; an empty list when there is none.

        Every picture is searched at two sizes, and once more with a border around it where nothing was found.

        Parameters
        ----------
        image
            uint8 RGB (H, W, 3).
        thorough
            Search with the border and at all four quarter turns in any case; eight times the work.
        doubtful
            Add what scores below the threshold and may be a face.

        Raises
        ------
        ValueError
            The image is not uint8 (H, W, 3), or is empty.
        """
        _check(image)
        view = _square_enough(_shrunk(_View(np.ascontiguousarray(image[:, :, ::-1]), _identity())))
        least = 0.0 if doubtful else self._threshold
        if not thorough:
            found = _distinct(self._search(view, least))
            return found or _distinct(self._search(self._with_border(view), least))
        upright = (view, self._with_border(view))
        views = [*upright, *(_turned(each, quarters) for each in upright for quarters in (1, 2, 3))]
        return _distinct(face for each in views for face in self._search(each, least))

    def embed(self, image: Image, landmarks: Floats) -> Floats:
        """Unit-length float32 (D,) identity of the face whose five landmarks (5, 2) are given.

        Raises
        ------
        ValueError
            The image is not uint8 (H, W, 3); the landmarks cannot be aligned or lie outside it; or the
            recogniser gives nothing that can be compared (zero, or not finite).
        """
        _check(image)
        shown = align.covered(image.shape[0], image.shape[1], landmarks)
        if not shown >= LEAST_COVERED:
            raise ValueError("the landmarks lie too far outside the picture")
        blue_first = np.ascontiguousarray(image[:, :, ::-1])
        crops = [align.crop(blue_first, _moved(landmarks, *look)) for look in self._looks]
        answers = [np.asarray(self._recogniser.get_feat(each), np.float32).reshape(-1) for each in crops]
        return _unit(np.mean([_unit(each) for each in answers], axis=0))

    @staticmethod
    def _with_border(view: _View) -> _View:
        width_px = max(1, round(min(view.image.shape[:2]) * BORDER))
        return _bordered(view, width_px, width_px)

    def _search(self, view: _View, least: float) -> Iterator[Face]:
        boxes, landmarks = self._pack.det_model.detect(view.image)
        for box, points in zip(boxes, landmarks, strict=True):
            if box[4] < least:
                continue
            corners = _back(box[:4].reshape(2, 2), view.matrix)
            yield Face(
                box=np.concatenate([corners.min(axis=0), corners.max(axis=0)]).astype(np.float32),
                landmarks=_back(points, view.matrix),
                score=float(min(1.0, box[4])),
            )


def _check(image: Image) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ValueError("an image must be uint8 of shape (H, W, 3), and not empty")
