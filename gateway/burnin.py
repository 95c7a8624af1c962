"""Text in the pixels: names and dates that were burned into a photograph, found by RapidOCR.

The picture is looked at as it is, or reduced to 1500 pixels on its longer side. Letters from about 10 pixels height
*after* that are found: in a picture of 4000 pixels those of 27 and more.

Portraits hold flags, pins and buttons that a reader of text takes for single letters; what counts as text has at
least three letters or digits (two where the script writes a word with two signs) and was read with confidence.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gateway.errors import Held, Misconfigured

MAX_SIDE_PX = 1500
MIN_SCORE = 0.8
MIN_SIGNS = 3
MIN_IDEOGRAPHS = 2

ALLOWED: tuple[str, ...] = (
    r"[LR]",
    r"left|right",
    r"(?:\d{1,2}[\s|]+)*\d{1,3}(?:[.,]\d{1,2})?\s*(?:mm|cm|µm|um|inch|in)\.?",
)
"""Patterns of whole texts that say nothing about a person: sides, and scale bars with their unit.

A row of digits without a unit may be a ruler's, a date or a number of a patient; it counts as text.
"""

_IDEOGRAPH = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")


@dataclass(frozen=True, slots=True, eq=False)
class Text:
    """One line of text in a picture.

    Attributes
    ----------
    box
        float32 (4, 2): its corners in pixels of the picture searched, x and y, clockwise from the upper left.
    text
        As read; it may identify a person and belongs in no log.
    score
        The reader's confidence in [0, 1].
    """

    box: NDArray[np.float32]
    text: str
    score: float

    def __repr__(self) -> str:
        return f"Text({len(self.text)} signs, score={self.score:.2f})"


class TextFinder:
    """Finds text in pictures. One may be used by several threads.

    Parameters
    ----------
    allow
        Regular expressions of whole texts, in any case, that may stay.
    min_score
        Confidence in [0, 1] below which a reading is taken for a pattern, not for text.
    threads
        Threads of the models.

    Raises
    ------
    Misconfigured
        RapidOCR is not installed, or an expression of ``allow`` is none.
    """

    def __init__(
        self, allow: Iterable[str] = ALLOWED, min_score: float = MIN_SCORE, threads: int = 1
    ) -> None:
        try:
            self._allow = [re.compile(pattern, re.IGNORECASE) for pattern in allow]
        except re.error as error:
            raise Misconfigured("allowed burned-in texts must be regular expressions") from error
        self._min_score = min_score
        self._reader = _reader(threads)

    def find(self, rgb: NDArray[np.uint8]) -> list[Text]:
        """Texts that are not allowed in one uint8 RGB (H, W, 3) picture, surest first.

        Raises
        ------
        Held
            ``text``: the picture could not be searched.
        """
        picture, scale = _reduced(rgb)
        try:
            result = self._reader(np.ascontiguousarray(picture[..., ::-1]))  # it expects blue first
        except Exception as error:
            raise Held(
                "text", f"the pixels could not be searched for text ({type(error).__name__})"
            ) from error
        if result.txts is None or result.boxes is None or result.scores is None:
            return []
        found = [
            Text(np.asarray(box, dtype=np.float32) / scale, str(text).strip(), float(score))
            for box, text, score in zip(result.boxes, result.txts, result.scores, strict=True)
        ]
        return sorted((t for t in found if self._counts(t)), key=lambda t: -t.score)

    def _counts(self, text: Text) -> bool:
        signs = [c for c in text.text if c.isalnum()]
        ideographs = _IDEOGRAPH.findall(text.text)
        word = len(signs) >= MIN_SIGNS or len(ideographs) >= MIN_IDEOGRAPHS
        # The stripes of a flag are read as one sign again and again.
        word = word and not (len(set(signs)) == 1 and len(ideographs) == len(signs))
        # Written so that a score that is no number counts.
        return (
            word and not text.score < self._min_score and not any(p.fullmatch(text.text) for p in self._allow)
        )


def _reader(threads: int) -> Any:
    try:
        from rapidocr import RapidOCR
    except ImportError as error:
        raise Misconfigured(
            "searching pixels for text needs RapidOCR: install anoskin-gateway[treat]"
        ) from error
    return RapidOCR(
        params={
            "Global.log_level": "critical",
            "Global.max_side_len": MAX_SIDE_PX,
            "Global.text_score": 0.0,
            "Det.limit_side_len": MAX_SIDE_PX,
            "Det.limit_type": "max",
            "EngineConfig.onnxruntime.intra_op_num_threads": threads,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
        }
    )


def _reduced(rgb: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], float]:
    """The picture with at most 1500 pixels on its longer side, and its size as a part of the original's."""
    import cv2

    height, width = rgb.shape[:2]
    scale = MAX_SIDE_PX / max(height, width)
    if scale >= 1:
        return rgb, 1.0
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), dtype=np.uint8), scale
