"""Frames -> anonymised frames and the evidence about them, through the models of a bundle.

Shape letters: F frames, H rows, W columns, D length of an identity embedding.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from gateway.errors import Held, Postponed
from inference.anonymize import Given, MaskOptions, Plan, plan, search, uncovered
from inference.blend import erased
from inference.contract import Image, Mask, Models, Unavailable
from inference.disguise import SMALLER_KEEP, Asked, Identity, Likeness, disguised


@dataclass(frozen=True, slots=True, eq=False)
class Redacted:
    """The anonymised frames of one object and what was measured on them.

    Attributes
    ----------
    frames
        uint8 RGB (F, H, W, 3); equals the original outside ``hide``.
    hide, keep
        bool (F, H, W): painted over as parts of a face; lesion kept inside one.
    written
        bool (F, H, W): painted over as text.
    faces
        Faces found in the originals.
    features
        Features (eye, brow, nose, mouth) were seen by the segmentation.
    uncovered_pixels
        Feature pixels that a second look saw outside *hide* and *keep*.
    doubtful
        What may be further faces.
    similarity, similarity_limit
        Largest cosine to any original face of the arrival, ``None`` when nothing could be compared, and the limit it
        is judged by; of several verifiers those of the strictest.
    attempts
        Paintings made for the frame that needed most; 0 where none could be compared with anybody.
    """

    frames: NDArray[np.uint8]
    hide: NDArray[np.bool_]
    keep: NDArray[np.bool_]
    written: NDArray[np.bool_]
    faces: int
    features: bool
    uncovered_pixels: int
    doubtful: int
    similarity: float | None
    similarity_limit: float
    attempts: int

    @property
    def painted(self) -> NDArray[np.bool_]:
        """Every pixel that may differ from the original, bool (F, H, W)."""
        return self.hide | self.written


@dataclass(frozen=True, slots=True, eq=False)
class Redactor:
    """Paints over every face of an object until nobody is like whom it shows, or says how near it came.

    Parameters
    ----------
    models
        The bundle in use.
    masks
        How masks are made.
    attempts
        Paintings made at most, with other seeds; as many again without the kept margin where none of them passes.
    """

    models: Models
    masks: MaskOptions
    attempts: int

    def identities(self, frames: NDArray[np.uint8]) -> list[Identity]:
        """What every face in frames (F, H, W, 3) is known by.

        Raises
        ------
        Postponed
            ``models``: they cannot answer now.
        """
        found = []
        try:
            for image in frames:
                for face in search(image, self.models):
                    # One cut by the border so far that nobody could be told from it is left out.
                    with suppress(ValueError):
                        verifiers = self.models.verifiers
                        found.append(tuple(v.analyser.embed(image, face.landmarks) for v in verifiers))
        except Unavailable as error:
            raise Postponed("models", "the models cannot answer now") from error
        return found

    def redact(  # noqa: PLR0913 - what is painted, how, and what is known about it
        self,
        frames: NDArray[np.uint8],
        prompt: str,
        seed: int,
        others: Sequence[Identity] = (),
        *,
        written: NDArray[np.bool_] | None = None,
        given: Sequence[Given] | None = None,
    ) -> Redacted:
        """Anonymise frames, uint8 RGB (F, H, W, 3).

        Parameters
        ----------
        frames, prompt, seed
            What is painted, in which words, and by which dice.
        others
            Identities seen elsewhere in the arrival.
        written
            bool (F, H, W): text that is painted out; the painter of faces does not see it.
        given
            A caller's own masks, one entry a frame.

        Raises
        ------
        Held
            ``lesion-over-feature``: the rule asks for a person. ``masks``: given masks do not fit the frames.
        Postponed
            ``models``: they cannot answer now.
        """
        written = np.zeros(frames.shape[:3], np.bool_) if written is None else written
        if given is not None and len(given) != len(frames):
            raise Held("masks", "the masks given for this object are not as many as its frames")
        try:
            done = [
                self._frame(
                    image,
                    prompt,
                    seed + 104729 * f,
                    others,
                    written=written[f],
                    given=given[f] if given else None,
                )
                for f, image in enumerate(frames)
            ]
        except Unavailable as error:
            raise Postponed("models", "the models cannot answer now") from error
        # Hidden pixels are enough: where a person drew the mask, neither face nor feature need have been seen.
        unknown = any(
            one.similarity is None and (one.faces or one.features or one.hide.any()) for one in done
        )
        compared = [
            Likeness(one.similarity, one.similarity_limit) for one in done if one.similarity is not None
        ]
        worst = max(compared, key=lambda likeness: likeness.excess, default=None)
        return Redacted(
            frames=np.concatenate([one.frames for one in done]),
            hide=np.concatenate([one.hide for one in done]),
            keep=np.concatenate([one.keep for one in done]),
            written=written,
            faces=sum(one.faces for one in done),
            features=any(one.features for one in done),
            uncovered_pixels=sum(one.uncovered_pixels for one in done),
            doubtful=sum(one.doubtful for one in done),
            similarity=None if unknown or worst is None else worst.cosine,
            similarity_limit=self.models.similarity_limit if worst is None else worst.limit,
            attempts=max(one.attempts for one in done),
        )

    def _frame(  # noqa: PLR0913 - as above, of one frame
        self,
        image: Image,
        prompt: str,
        seed: int,
        others: Sequence[Identity],
        *,
        written: Mask,
        given: Given | None,
    ) -> Redacted:
        todo = self._plan(image, written, self.masks, given)
        if todo.covered:
            raise Held("lesion-over-feature", f"a lesion covers: {', '.join(todo.covered)}")
        base = erased(image, written)
        less = replace(self.masks, keep_margin=SMALLER_KEEP)
        smaller = partial(self._plan, image, written, less, given, todo)
        drawn = given is not None and given.keep is not None  # a margin that a person drew is not given up
        best = disguised(
            Asked(image, base, prompt, seed, others),
            todo,
            self.models,
            self.attempts,
            None if drawn else smaller,
        )
        result, used, likeness = best.image, best.plan, best.likeness
        return Redacted(
            frames=result[None],
            hide=used.hide[None],
            keep=used.keep[None],
            written=written[None],
            faces=len(used.faces),
            features=bool(used.features.any()),
            uncovered_pixels=uncovered(image, used, self.models),
            doubtful=len(used.doubtful),
            similarity=likeness.cosine,
            similarity_limit=likeness.limit,
            attempts=best.made,
        )

    def _plan(
        self, image: Image, written: Mask, masks: MaskOptions, given: Given | None, before: Plan | None = None
    ) -> Plan:
        try:
            todo = plan(image, self.models, masks, None if before is None else before.faces, given)
        except ValueError as error:
            raise Held("masks", "the masks given for this object do not fit its pictures") from error
        return replace(todo, keep=todo.keep & ~written)  # text over a lesion goes with what is under it


def changed_outside(before: Image, after: Image, hide: Mask) -> bool:
    """Whether any pixel outside ``hide`` differs between two pictures (…, H, W, 3)."""
    return bool(((before != after).any(-1) & ~hide).any())
