"""Preferences without a person: several paintings of every photograph, ranked by seam, likeness to a face, and to whom.

Shape letters: H × W native size, S the inpainter's side. Images are uint8 RGB.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from inference.anonymize import BLANK, MaskOptions, Plan, plan
from inference.contract import Floats, Image, Mask, Models
from inference.data import DataError
from inference.data.manifest import Photograph, assigned, present
from inference.data.pairs import NAME, Pair, pairs_file, write


@dataclass(frozen=True, slots=True)
class Score:
    """How a painting fares.

    Attributes
    ----------
    seam
        Mean CIELAB difference across the outline of what was painted, ≥ 0; less is better.
    confidence
        Detector's score of the best face in it, in [0, 1], 0 without one; more is better.
    similarity
        Cosine to the original's face, in [−1, 1]; less is better. 1 where it cannot be told.
    """

    seam: float
    confidence: float
    similarity: float


def ranking(scores: Sequence[Score]) -> list[int]:
    """Indices of paintings, best first, by the mean of their three ranks; equal ones in their order."""
    table = np.array([[one.seam, -one.confidence, one.similarity] for one in scores])
    ranks = np.array(
        [[(column < value).sum() + (column == value).sum() / 2 for value in column] for column in table.T]
    )
    return [int(index) for index in np.argsort(ranks.mean(0), kind="stable")]


def seam(image: Image, hide: Mask) -> float:
    """Mean CIELAB difference between the pixels on either side of the outline of ``hide`` (S, S); 0 without one."""
    lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    steps = []
    for axis in (0, 1):
        across = np.diff(hide.astype(np.int8), axis=axis) != 0
        steps.append(np.linalg.norm(np.diff(lab, axis=axis), axis=-1)[across])
    found = np.concatenate(steps)
    return float(found.mean()) if len(found) else 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Rivals:
    """Paintings of one crop of a photograph.

    Attributes
    ----------
    paintings
        uint8 RGB (S, S, 3), equal outside of ``hide``.
    hide
        bool (S, S).
    scores
        One for each.
    """

    paintings: list[Image]
    hide: Mask
    scores: list[Score]


def rivals(image: Image, models: Models, prompt: str, seeds: Sequence[int]) -> Rivals | None:
    """Paint the first crop of a photograph (H, W, 3) once for each seed; None where there is nothing to hide.

    Raises
    ------
    inference.contract.Unavailable
        A model cannot answer now.
    """
    intended: Plan = plan(image, models, MaskOptions())
    if not intended.crops or not intended.faces:
        return None
    crop, face = intended.crops[0], intended.faces[0]
    original, hide = crop.take(image), crop.take_mask(intended.hide)
    view = original.copy()
    view[hide] = BLANK
    count = len(seeds)
    answers = models.inpainter.inpaint(
        np.stack([view] * count), np.stack([hide] * count), [prompt] * count, seeds
    )
    paintings = [np.where(hide[..., None], answer, view).astype(np.uint8) for answer in answers]
    landmarks = (face.landmarks @ crop.matrix[:, :2].T + crop.matrix[:, 2]).astype(np.float32)
    known = _embedding(models, original, landmarks)
    scores = []
    for painting in paintings:
        larger = cv2.resize(painting, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
        found = models.faces.find(np.asarray(larger, np.uint8))
        mine = _embedding(models, painting, landmarks)
        similarity = 1.0 if known is None or mine is None else float(known @ mine)
        scores.append(Score(seam(painting, hide), found[0].score if found else 0.0, similarity))
    return Rivals(paintings, hide, scores)


def _embedding(models: Models, image: Image, landmarks: Floats) -> Floats | None:
    try:
        return models.faces.embed(image, landmarks)
    except ValueError:
        return None


def make_pairs(  # noqa: PLR0913 - what of, by whom, where to, how many, and what is told
    rows: Sequence[Photograph],
    models: Models,
    out: Path,
    *,
    seeds: int,
    seed: int,
    tick: Callable[[], None] = lambda: None,
) -> list[Pair]:
    """Write the best and the worst of ``seeds`` paintings of every photograph, and ``pairs.csv``, into ``out``.

    Photographs on which no face is found are left out.

    Raises
    ------
    DataError
        ``out`` holds pairs already, a photograph is missing or has no split, two have one name, or none shows a face.
    inference.contract.Unavailable
        A model cannot answer now.
    """
    for there in (pairs_file(out), out / "pairs"):
        if there.exists():
            raise DataError(f"{there} is there already and is not replaced; name another --out.")
    if len({row.name for row in rows}) < len(rows):
        raise DataError("several photographs have one name, and so would their pairs.")
    assigned(rows)
    present(rows)
    pairs = []
    for number, row in enumerate(rows):
        prompt = models.prompts.get(row.disease, models.prompts[""])
        painted = rivals(
            row.read()[0], models, prompt, [seed * 1_000_003 + number * 101 + one for one in range(seeds)]
        )
        tick()
        if painted is None:
            continue
        (out / "pairs").mkdir(parents=True, exist_ok=True)
        order = ranking(painted.scores)
        files = [out / "pairs" / f"{row.name}-{name}.png" for name in ("winner", "loser", "hide")]
        best, worst = painted.paintings[order[0]], painted.paintings[order[-1]]
        for file, picture in zip(
            files, (best[..., ::-1], worst[..., ::-1], painted.hide * np.uint8(255)), strict=True
        ):
            if not cv2.imwrite(str(file), np.ascontiguousarray(picture)):
                raise OSError(f"{file} cannot be written")
        winner, loser, hide = files
        pairs.append(Pair(winner, loser, hide, prompt, row.patient, row.split))
    if not pairs:
        raise DataError(f"no face was found on any of the {len(rows)} photographs.")
    write(out / NAME, pairs)
    return pairs
