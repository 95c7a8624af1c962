"""Painting a photograph until nobody in it is like whom it hides, or telling how near that came.

The first painting below the limit is not good enough: a recogniser that is small or was tuned elsewhere may still know
a face that this one does not. While seeds are left, a painting is wanted that lies a margin below the limit; of all
that were made, the least similar one is taken. Shape letters: H rows, W columns, D length of an identity embedding.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from inference.anonymize import BLANK, Plan, paint
from inference.contract import Floats, Image, Models, Verifier

Identity = tuple[Floats, ...]
"""What each verifier of the models knows a person by: one embedding (D,) each."""
SMALLER_KEEP = 0.0
"""Margin about lesions once other seeds have not helped."""


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
    """What one photograph is painted from.

    Attributes
    ----------
    image, base
        uint8 RGB (H, W, 3): as it came, which verifiers compare with; and without its text, which is painted on.
    prompt, seed
        In which words and by which dice.
    others
        Identities seen elsewhere, whom the result must be unlike too.
    """

    image: Image
    base: Image
    prompt: str
    seed: int
    others: Sequence[Identity] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Painting:
    """One painting, how many were ``made`` to get it, and whether others could be no better."""

    image: Image
    plan: Plan
    likeness: Likeness
    made: int
    final: bool

    @property
    def passes(self) -> bool:
        """Whether the person is no longer recognised."""
        return self.likeness.excess < 0


def disguised(
    asked: Asked,
    todo: Plan,
    models: Models,
    attempts: int,
    smaller: Callable[[], Plan] | None = None,
) -> Painting:
    """The least similar of the paintings made.

    Parameters
    ----------
    asked, todo
        What is painted, and where.
    models
        The bundle in use.
    attempts
        Paintings made at most, with other seeds; as many again with another plan where none of them passes.
    smaller
        Makes that plan, with a margin of :data:`SMALLER_KEEP` about kept lesions; ``None``: there is no other.

    Raises
    ------
    inference.contract.Unavailable
        A model cannot answer now.
    """
    if todo.hide.any() and not (todo.faces and todo.confirmed):
        return _blank(asked, todo, models)  # whatever is painted would be compared with nobody
    best = _painted(asked, todo, models, attempts, 0)
    if best.passes or best.final or smaller is None or not todo.keep.any():
        return best
    again = _painted(asked, smaller(), models, attempts, attempts)
    return again if again.likeness.excess < best.likeness.excess else replace(best, made=again.made)


def _painted(asked: Asked, todo: Plan, models: Models, attempts: int, before: int) -> Painting:
    """The least similar of at most ``attempts`` paintings of one plan; ``before`` were made with another one.

    It ends with the first that is clearly somebody else, or that can do no better: nothing is hidden, nobody can
    be compared, or the photograph is held for another face whatever is painted.
    """
    best: Painting | None = None
    for made in range(before + 1, before + attempts + 1):
        dice = (asked.seed + 15485863 * made) % 2**31
        result = paint(asked.base, todo, models.inpainter, asked.prompt, dice)
        likeness = likeness_of(asked, result, todo, models)
        final = likeness.cosine is None or bool(todo.doubtful) or not todo.hide.any()
        if best is None or likeness.excess < best.likeness.excess:
            best = Painting(result, todo, likeness, made, final)
        best = replace(best, made=made, final=final)
        if final or likeness.clear:
            break
    assert best is not None
    return best


def _blank(asked: Asked, todo: Plan, models: Models) -> Painting:
    """The photograph without what is hidden."""
    image = asked.base.copy()
    image[todo.hide] = BLANK
    return Painting(image, todo, Likeness(None, models.similarity_limit), 0, final=True)


def likeness_of(asked: Asked, result: Image, todo: Plan, models: Models) -> Likeness:
    """What the strictest verifier says of a result, uint8 RGB (H, W, 3), and whether all are sure."""
    found = []
    clear = True
    for index, verifier in enumerate(models.verifiers):
        known = [identity[index] for identity in asked.others]
        one = Likeness(_cosine(verifier, asked.image, result, todo, known), verifier.limit)
        clear = clear and one.excess < -verifier.margin
        found.append(one)
    return replace(max(found, key=lambda likeness: likeness.excess), clear=clear)


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
