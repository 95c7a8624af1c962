"""Text in the pixels: names and dates that were burned into a photograph, found by RapidOCR and painted out.

A reader misses at one size or turn what it sees at another, so a picture is looked at several times
(:func:`gateway.looks.views`): small, for large letters, at all four quarter turns; larger, at two; and, of a large
photograph, once more with 3000 pixels on its longer side. Letters from about 10 pixels height in a look are found: in a
picture of 4000 pixels those of 13 and more.

What was painted out is read again close by (:meth:`TextFinder.left`): larger than before, at all four turns, with what
stands beside it, so that the rest of a line of which a part was found is found too.

Portraits hold flags, pins and buttons that a reader takes for single letters; what counts as text has at least three
letters or digits (two where the script writes a word with two signs) and was read with confidence. Beside such a text
less is enough (:data:`NEIGHBOUR_SCORE`): a line is often read in pieces.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gateway.errors import Held, Misconfigured
from gateway.looks import LARGEST_PX, Rgb, placed, places, views
from inference.blend import erased

MIN_SCORE = 0.8
NEIGHBOUR_SCORE = 0.5
MIN_SIGNS = 3
MIN_IDEOGRAPHS = 2
SAME_PLACE = 0.6
"""Share of a box inside a better reading's box from which on it is another look at the same text."""
ROUNDS = 3
"""Times that what is left is painted out, and read again, before it holds."""
MARGIN = 0.35
"""Painted around a text, as a share of its height; twice that before and after it, where a reader cuts letters off."""

_ONWARD = "".join(rf"(?:[\s|]+{number}" for number in range(4, 31)) + ")?" * 27

ALLOWED: tuple[str, ...] = (
    r"[LR]",
    r"left|right",
    r"(?:\d{1,2}[\s|]+)*\d{1,3}(?:[.,]\d{1,2})?\s*(?:mm|cm|µm|um|inch|in)\.?",
    rf"(?:0[\s|]+)?1[\s|]+2[\s|]+3{_ONWARD}",
)
"""Patterns of whole texts that say nothing about a person: sides, scale bars with their unit, a ruler's 0 1 2 3 ….

Any other row of digits without a unit may be a date or a number of a patient and counts as text; so does 0123, a
ruler's numbers that stand close together.
"""

_IDEOGRAPH = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")


@dataclass(frozen=True, slots=True, eq=False)
class Text:
    """One line of text in a picture.

    Attributes
    ----------
    box
        float32 (4, 2): its corners in pixels of the picture searched, x and y, in turn; the first side lies along
        the line.
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

    def find(self, rgb: Rgb, *, any_one: bool = False) -> list[Text]:
        """Texts that are not allowed in one uint8 RGB (H, W, 3) picture, surest first.

        ``any_one`` stops at the first look that shows one: enough to hold a picture.

        Raises
        ------
        Held
            ``text``: the picture could not be searched.
        """
        seen: list[Text] = []
        for picture, back in views(rgb):
            seen += [Text(placed(one.box, back), one.text, one.score) for one in self._read(picture)]
            if any_one and any(self._counts(text) for text in self._standing(seen)):
                break
        standing = self._standing(seen)
        if not any(self._counts(text) for text in standing):
            return []
        return sorted((t for t in standing if self._counts(t, neighbour=True)), key=lambda t: -t.score)

    def left(self, rgb: Rgb, painted: NDArray[np.bool_]) -> list[Text]:
        """Texts that can be read at or beside the ``painted`` pixels (H, W) of a picture (H, W, 3) searched before.

        Raises
        ------
        Held
            ``text``: the picture could not be searched.
        """
        height, width = painted.shape
        found: list[Text] = []
        for x0, y0, x1, y1 in places(painted):
            for one in self.find(rgb[y0:y1, x0:x1]):
                box = np.asarray(one.box + np.array([x0, y0]), np.float32)
                low, high = box.min(0), box.max(0)
                if (
                    (low <= np.array([x0, y0]) + 2)[[x0 > 0, y0 > 0]].any()
                    or (high >= np.array([x1, y1]) - 2)[[x1 < width, y1 < height]].any()
                ):  # what goes on outside has to be read whole: it may be allowed, or the rest of a line
                    return self.find(rgb)
                found.append(Text(box, one.text, one.score))
        return found

    def _read(self, picture: Rgb) -> list[Text]:
        try:
            result = self._reader(np.ascontiguousarray(picture[..., ::-1]))  # it expects blue first
        except Exception as error:
            raise Held(
                "text", f"the pixels could not be searched for text ({type(error).__name__})"
            ) from error
        if result.txts is None or result.boxes is None or result.scores is None:
            return []
        return [
            Text(np.asarray(box, dtype=np.float32), str(text).strip(), float(score))
            for box, text, score in zip(result.boxes, result.txts, result.scores, strict=True)
        ]

    def _standing(self, seen: Sequence[Text]) -> list[Text]:
        """What is left when allowed texts are taken out, and what other looks made of them.

        That is, in the same place, what was read less surely, or the same signs in another grouping.
        """
        allowed = [
            t for t in seen if any(p.fullmatch(t.text) for p in self._allow) and t.score >= self._min_score
        ]
        return [
            t
            for t in seen
            if not any(p.fullmatch(t.text) for p in self._allow)
            and not any(
                (t.score < one.score or _signs(t.text) in _signs(one.text))
                and _share_inside(t.box, one.box) >= SAME_PLACE
                for one in allowed
            )
        ]

    def _counts(self, text: Text, *, neighbour: bool = False) -> bool:
        signs = _signs(text.text)
        ideographs = _IDEOGRAPH.findall(text.text)
        word = len(signs) >= MIN_SIGNS or len(ideographs) >= MIN_IDEOGRAPHS
        # The stripes of a flag are read as one sign again and again.
        word = word and not (len(set(signs)) == 1 and len(ideographs) == len(signs))
        if neighbour:
            word = word or len(signs) >= MIN_IDEOGRAPHS
        # Written so that a score that is no number counts.
        return word and not text.score < (NEIGHBOUR_SCORE if neighbour else self._min_score)


def _signs(text: str) -> str:
    return "".join(sign for sign in text.casefold() if sign.isalnum())


def _share_inside(box: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Share of a box's upright hull that lies inside another's, in [0, 1]."""
    low, high = np.maximum(box.min(0), other.min(0)), np.minimum(box.max(0), other.max(0))
    return float(np.prod(np.clip(high - low, 0, None)) / max(float(np.prod(np.ptp(box, axis=0))), 1e-6))


def text_mask(texts: Sequence[Text], height: int, width: int) -> NDArray[np.bool_]:
    """Where these texts stand, with a margin, bool (height, width)."""
    import cv2

    canvas = np.zeros((height, width), np.uint8)
    for text in texts:
        (cx, cy), (across, down), angle = cv2.minAreaRect(text.box)
        margin = MARGIN * min(across, down) + 2
        along = 2 * margin if len(text.text) > 1 else margin
        grown = (
            (across + 2 * along, down + 2 * margin)
            if across >= down
            else (across + 2 * margin, down + 2 * along)
        )
        corners = cv2.boxPoints(((cx, cy), grown, angle))
        cv2.fillConvexPoly(canvas, np.rint(corners).astype(np.int32), 1)
    return np.asarray(canvas > 0)


def painted_out(finder: TextFinder, rgb: Rgb) -> tuple[Rgb, NDArray[np.bool_], int]:
    """One picture (H, W, 3) with its text painted out and read again, where that was, and how many lines are left.

    Raises
    ------
    Held
        ``text``: the picture could not be searched.
    """
    mask = np.zeros(rgb.shape[:2], np.bool_)
    clean, texts = rgb, finder.find(rgb)
    for _ in range(ROUNDS):
        if not texts:
            break
        mask = mask | text_mask(texts, *rgb.shape[:2])
        clean = erased(rgb, mask)
        texts = finder.left(clean, mask)
    return clean, mask, len(texts)


@dataclass(frozen=True, slots=True)
class Lettering:
    """What becomes of text in the pixels of an object.

    Attributes
    ----------
    finder
        Finds it.
    paint
        It is painted out, and the result read again; otherwise it holds.
    """

    finder: TextFinder
    paint: bool

    def written(self, frames: Rgb) -> NDArray[np.bool_]:
        """Where text stands that is to be painted out, bool (F, H, W), in frames (F, H, W, 3).

        Raises
        ------
        Held
            ``text``: there is some and it is not to be painted out, or some is left however often it is painted.
        """
        found = np.zeros(frames.shape[:3], np.bool_)
        for index, image in enumerate(frames):
            if not self.paint:
                if self.finder.find(image, any_one=True):
                    raise Held("text", "text stands in the pixels")
                continue
            _, found[index], left = painted_out(self.finder, image)
            if left:
                raise Held("text", f"{left} line(s) of text can still be read after painting them out")
        return found

    def legible(self, frames: Rgb, written: NDArray[np.bool_]) -> int:
        """Texts in the finished frames (F, H, W, 3) at their ``written`` pixels (F, H, W); the rest was read before."""
        return sum(
            len(self.finder.left(image, mask))
            for image, mask in zip(frames, written, strict=True)
            if mask.any()
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
            "Global.max_side_len": LARGEST_PX,
            "Global.text_score": 0.0,
            "Det.limit_side_len": LARGEST_PX,
            "Det.limit_type": "max",
            "EngineConfig.onnxruntime.intra_op_num_threads": threads,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
        }
    )
