"""Frames -> anonymised frames and the evidence about them, through the models of a bundle.

Shape letters: F frames, H rows, W columns, D length of an identity embedding.
"""

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gateway.errors import Held, Postponed
from inference.anonymize import BLANK, Given, MaskOptions, Plan, paint, plan, search, uncovered
from inference.blend import erased
from inference.contract import Floats, Image, Mask, Models, Unavailable, Verifier

Identity = tuple[Floats, ...]
"""What each verifier of the models knows a person by: one embedding (D,) each."""

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


@dataclass(frozen=True, slots=True)
class Likeness:
    """How like its original a painting is: the largest cosine, or ``None``, and the limit it is judged by.

    ``clear`` says that every verifier calls the persons clearly others, a margin below its limit.
    """

    cosine: float | None
    limit: float
    clear: bool = False

    @property
    def excess(self) -> float:
        """How far above the limit: infinity where nothing could be compared or a number is none."""
        above = math.inf if self.cosine is None else self.cosine - self.limit
        return math.inf if math.isnan(above) else above


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """What one frame is painted from: as it came, without its text, in which words, by which dice, unlike whom."""

    image: Image
    base: Image
    prompt: str
    seed: int
    others: Sequence[Identity]


@dataclass(frozen=True, slots=True, eq=False)
class Painting:
    """One painting of a frame, how many were ``made`` to get it, and whether others could be no better."""

    image: Image
    plan: Plan
    likeness: Likeness
    made: int
    final: bool

    @property
    def passes(self) -> bool:
        """Whether the person is no longer recognised."""
        return self.likeness.excess < 0


@dataclass(frozen=True, slots=True, eq=False)
class Redactor:
    """Paints over every face of an object until nobody is like whom it shows, or says how near it came.

    The first painting below the limit is not good enough: a recogniser that is small or was tuned elsewhere may still
    know a face that this one does not. While seeds are left, a painting is wanted that lies a margin below the limit;
    of all that were made, the least similar one is taken.

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
        asked = Asked(image, base, prompt, seed, others)
        best = self._painted(asked, todo, 0) if _comparable(todo) else self._blank(asked, todo)
        # A margin that a person drew is not given up.
        if not best.passes and not best.final and todo.keep.any() and (given is None or given.keep is None):
            less = self._plan(image, written, replace(self.masks, keep_margin=SMALLER_KEEP), given, todo)
            again = self._painted(asked, less, self.attempts)
            best = again if again.likeness.excess < best.likeness.excess else replace(best, made=again.made)
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

    def _painted(self, asked: Asked, todo: Plan, before: int) -> Painting:
        """The least similar of at most ``attempts`` paintings of one plan; ``before`` were made with another one.

        It ends with the first that is clearly somebody else, or that can do no better: nothing is hidden, nobody can
        be compared, or the photograph is held for another face whatever is painted.
        """
        best: Painting | None = None
        for made in range(before + 1, before + self.attempts + 1):
            dice = (asked.seed + 15485863 * made) % 2**31
            result = paint(asked.base, todo, self.models.inpainter, asked.prompt, dice)
            likeness = self._likeness(asked.image, result, todo, asked.others)
            final = likeness.cosine is None or bool(todo.doubtful) or not todo.hide.any()
            if best is None or likeness.excess < best.likeness.excess:
                best = Painting(result, todo, likeness, made, final)
            best = replace(best, made=made, final=final)
            if final or likeness.clear:
                break
        assert best is not None
        return best

    def _blank(self, asked: Asked, todo: Plan) -> Painting:
        """The frame without what is hidden: no painting would be compared with anybody, and so none could leave."""
        image = asked.base.copy()
        image[todo.hide] = BLANK
        return Painting(image, todo, Likeness(None, self.models.similarity_limit), 0, final=True)

    def _plan(
        self, image: Image, written: Mask, masks: MaskOptions, given: Given | None, before: Plan | None = None
    ) -> Plan:
        try:
            todo = plan(image, self.models, masks, None if before is None else before.faces, given)
        except ValueError as error:
            raise Held("masks", "the masks given for this object do not fit its pictures") from error
        return replace(todo, keep=todo.keep & ~written)  # text over a lesion goes with what is under it

    def _likeness(self, image: Image, result: Image, todo: Plan, others: Sequence[Identity]) -> Likeness:
        """What the strictest verifier says, and whether all are sure."""
        found = []
        clear = True
        for index, verifier in enumerate(self.models.verifiers):
            known = [identity[index] for identity in others]
            one = Likeness(_cosine(verifier, image, result, todo, known), verifier.limit)
            clear = clear and one.excess < -verifier.margin
            found.append(one)
        return replace(max(found, key=lambda likeness: likeness.excess), clear=clear)


def _comparable(todo: Plan) -> bool:
    """Whether what is painted can be compared with whom it hides, or hides nobody."""
    return not todo.hide.any() or (bool(todo.faces) and todo.confirmed)


def _cosine(
    verifier: Verifier, image: Image, result: Image, todo: Plan, others: Sequence[Floats]
) -> float | None:
    """Largest cosine between original faces and the result, aligned by both their landmarks.

    ``None`` where a face was found but could not be compared, or where there is no face to compare. Landmarks
    that the segmentation does not confirm compare nothing: a wrongly aligned person is unlike anybody.
    """
    analyser = verifier.analyser
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


def changed_outside(before: Image, after: Image, hide: Mask) -> bool:
    """Whether any pixel outside ``hide`` differs between two pictures (…, H, W, 3)."""
    return bool(((before != after).any(-1) & ~hide).any())
