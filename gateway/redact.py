"""Frames -> anonymised frames and the evidence about them, through the models of a bundle.

Shape letters: F frames, H rows, W columns, D length of an identity embedding.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gateway.errors import Held, Postponed
from inference.anonymize import MaskOptions, Plan, paint, plan, search, uncovered
from inference.contract import Floats, Image, Mask, Models, Unavailable

SMALLER_KEEP = 0.0
"""Margin about lesions once other seeds have not helped."""


@dataclass(frozen=True, slots=True, eq=False)
class Redacted:
    """The anonymised frames of one object and what was measured on them.

    Attributes
    ----------
    frames
        uint8 RGB (F, H, W, 3); equals the original outside ``hide``.
    hide, keep
        bool (F, H, W): painted over; lesion kept inside a face.
    faces
        Faces found in the originals.
    features
        Features (eye, brow, nose, mouth) were seen by the segmentation.
    uncovered_pixels
        Feature pixels that a second look saw outside *hide* and *keep*.
    similarity
        Largest cosine to any original face of the arrival; ``None`` when nothing could be compared.
    attempts
        Paintings made for the frame that needed most.
    """

    frames: NDArray[np.uint8]
    hide: NDArray[np.bool_]
    keep: NDArray[np.bool_]
    faces: int
    features: bool
    uncovered_pixels: int
    similarity: float | None
    attempts: int


@dataclass(frozen=True, slots=True, eq=False)
class Redactor:
    """Paints over every face of an object until nobody is recognised, or says how near it came.

    Parameters
    ----------
    models
        The bundle in use.
    masks
        How masks are made.
    attempts
        Paintings tried with other seeds before the kept margin is given up, and as often after that.
    """

    models: Models
    masks: MaskOptions
    attempts: int

    def identities(self, frames: NDArray[np.uint8]) -> list[Floats]:
        """Embeddings (D,) of every face in frames (F, H, W, 3).

        Raises
        ------
        Postponed
            ``models``: they cannot answer now.
        """
        try:
            faces = [(image, face) for image in frames for face in search(image, self.models)]
        except Unavailable as error:
            raise Postponed("models", "the models cannot answer now") from error
        found = []
        for image, face in faces:
            with suppress(ValueError):  # cut by the border so far that nobody could be told from it
                found.append(self.models.faces.embed(image, face.landmarks))
        return found

    def redact(
        self, frames: NDArray[np.uint8], prompt: str, seed: int, others: Sequence[Floats] = ()
    ) -> Redacted:
        """Anonymise frames, uint8 RGB (F, H, W, 3); ``others`` are identities seen elsewhere in the arrival.

        Raises
        ------
        Held
            ``lesion-over-feature``: the rule asks for a person.
        Postponed
            ``models``: they cannot answer now.
        """
        try:
            done = [self._frame(image, prompt, seed + 104729 * f, others) for f, image in enumerate(frames)]
        except Unavailable as error:
            raise Postponed("models", "the models cannot answer now") from error
        compared = [one.similarity for one in done if one.similarity is not None]
        unknown = any(one.similarity is None and (one.faces or one.features) for one in done)
        return Redacted(
            frames=np.concatenate([one.frames for one in done]),
            hide=np.concatenate([one.hide for one in done]),
            keep=np.concatenate([one.keep for one in done]),
            faces=sum(one.faces for one in done),
            features=any(one.features for one in done),
            uncovered_pixels=sum(one.uncovered_pixels for one in done),
            similarity=None
            if unknown or not compared
            else float(np.max(compared)),  # unlike max(), it gives on a NaN
            attempts=max(one.attempts for one in done),
        )

    def _frame(self, image: Image, prompt: str, seed: int, others: Sequence[Floats]) -> Redacted:
        todo = plan(image, self.models, self.masks)
        if todo.covered:
            raise Held("lesion-over-feature", f"a lesion covers: {', '.join(todo.covered)}")
        best: tuple[Image, Plan, float | None] | None = None
        attempt = 0
        for attempt in range(1, 2 * self.attempts + 1):
            if attempt == self.attempts + 1:
                if not todo.keep.any():
                    break
                todo = plan(image, self.models, replace(self.masks, keep_margin=SMALLER_KEEP), todo.faces)
            result = paint(image, todo, self.models.inpainter, prompt, (seed + 15485863 * attempt) % 2**31)
            similarity = self._similarity(image, result, todo, others)
            if best is None or _closer(similarity, best[2]):
                best = (result, todo, similarity)
            if similarity is None or similarity < self.models.similarity_limit or not todo.hide.any():
                break
        assert best is not None
        result, used, similarity = best
        return Redacted(
            frames=result[None],
            hide=used.hide[None],
            keep=used.keep[None],
            faces=len(used.faces),
            features=bool(used.features.any()),
            uncovered_pixels=uncovered(image, used, self.models),
            similarity=similarity,
            attempts=attempt,
        )

    def _similarity(self, image: Image, result: Image, todo: Plan, others: Sequence[Floats]) -> float | None:
        """Largest cosine between original faces and the result, aligned by both their landmarks.

        ``None`` where a face was found but could not be compared, or where there is no face to compare. Landmarks
        that the segmentation does not confirm compare nothing: a wrongly aligned person is unlike anybody.
        """
        analyser = self.models.faces
        if not todo.confirmed:
            return None
        before: list[Floats] = []
        after: list[Floats] = []
        for face in todo.faces:
            try:
                before.append(analyser.embed(image, face.landmarks))
                after.append(analyser.embed(result, face.landmarks))
            except ValueError:
                return None
        for face in analyser.find(result):
            try:
                after.append(analyser.embed(result, face.landmarks))
            except ValueError:
                return None
        known = [*before, *others]
        if not before or not after:
            return None
        return float(np.max(np.stack(known) @ np.stack(after).T))  # NaN wins, and holds


def _closer(similarity: float | None, best: float | None) -> bool:
    """Whether this painting is less like the original than the best so far; an unknown one never is."""
    return similarity is not None and best is not None and similarity < best


def changed_outside(before: Image, after: Image, hide: Mask) -> bool:
    """Whether any pixel outside ``hide`` differs between two pictures (…, H, W, 3)."""
    return bool(((before != after).any(-1) & ~hide).any())
