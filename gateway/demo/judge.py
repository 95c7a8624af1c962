"""What became of each case: from the ledger, from the archive's files, and from the pixels themselves.

Shape letters: F frames, H rows, W columns.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.pixels.utils import pixel_array

from gateway.demo.archive import Archive
from gateway.demo.cases import KEEP_MOST, Case
from gateway.instance import State
from gateway.pseudonym import Pseudonyms
from gateway.schema import Entry
from gateway.settings import Pixels
from inference.anonymize import MaskOptions, plan
from inference.contract import Models
from inference.disguise import SMALLER_KEEP

LEAST_KEPT = 0.3
"""Share of the painted lesion that has to arrive; less would tell a reader nothing about the disease."""


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """The pictures of one case, for the sheet.

    Attributes
    ----------
    before, after
        uint8 RGB (F, H, W, 3): as sent, and as the archive has it; ``after`` is ``None`` where it has nothing.
    hide, keep
        bool (F, H, W), as the gateway's own models draw them.
    """

    before: NDArray[np.uint8]
    after: NDArray[np.uint8] | None
    hide: NDArray[np.bool_]
    keep: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Finding:
    """The end of one case.

    Attributes
    ----------
    name, expected, state, reason
        What it is, where it had to end, where it ended, and why.
    similarity
        Cosine between the original face and the result, where one was measured.
    kept_pixels_identical
        See :func:`identical`; ``None`` where nothing was forwarded.
    lesion_kept
        Share of the painted lesion's pixels that arrived as they were sent.
    seconds
        Time the gateway treated it for, from reading the original to the last gate.
    as_expected
        It ended as it had to, and its pixels are as they have to be.
    """

    name: str
    expected: State
    state: State | None
    reason: str | None
    similarity: float | None
    kept_pixels_identical: bool | None
    lesion_kept: float | None
    seconds: float | None
    as_expected: bool
    shown: Shown = field(repr=False, compare=False)

    def report(self) -> dict[str, Any]:
        """The finding as one entry of ``report.json``."""
        return {
            "name": self.name,
            "expected": str(self.expected),
            "state": None if self.state is None else str(self.state),
            "reason": self.reason,
            "similarity": self.similarity,
            "kept_pixels_identical": self.kept_pixels_identical,
            "seconds": self.seconds,
        }


def judge(case: Case, entry: Entry | None, seconds: float | None, archived: Path, sight: "Sight") -> Finding:
    """Compare the end of a case with the end it must come to.

    Parameters
    ----------
    case
        What was sent.
    entry
        Its row in the gateway's ledger; ``None`` where there is none.
    seconds
        How long its treatment took.
    archived
        Where the archive has its object, if it has it.
    sight
        Draws the masks.
    """
    before = _frames(case.dataset)
    evidence: Mapping[str, Any] = (entry.evidence if entry else None) or {}
    after = _frames(dcmread(archived)) if archived.exists() else None
    hide, keep = sight.masks(before, case, int(evidence.get("attempts") or 1))
    same = None if after is None else identical(before, after, hide, keep, untouched=case.untouched)
    lesion_kept = None if after is None else _share_kept(before, after, case.lesion)
    similarity = evidence.get("similarity")
    ended = entry is not None and entry.state is case.expected and entry.reason == case.reason
    if case.expected is State.FORWARDED:
        whole = same is True and (lesion_kept is None or lesion_kept >= LEAST_KEPT)
    else:
        whole = after is None
    return Finding(
        name=case.name,
        expected=case.expected,
        state=entry.state if entry else None,
        reason=entry.reason if entry else None,
        similarity=similarity if similarity is None or math.isfinite(similarity) else None,
        kept_pixels_identical=same,
        lesion_kept=lesion_kept,
        seconds=seconds,
        as_expected=ended and whole,
        shown=Shown(before, after, hide, keep),
    )


def identical(
    before: NDArray[np.uint8],
    after: NDArray[np.uint8],
    hide: NDArray[np.bool_],
    keep: NDArray[np.bool_],
    *,
    untouched: bool = False,
) -> bool:
    """Whether every pixel that must stay as photographed did.

    Those are the pixels of *keep* (lesion inside a face) and all pixels outside *hide*; in a picture without a face
    (``untouched``), all. Both pictures are decoded here, from the bytes sent and from the archive's file. The masks
    are drawn here as well, by the models and settings of the gateway, and not taken from what changed: a pixel
    that changed without being in *hide* is found, whatever the gateway thought of it.

    Parameters
    ----------
    before, after
        uint8 RGB (F, H, W, 3).
    hide, keep
        bool (F, H, W).
    """
    if before.shape != after.shape:
        return False
    same = (before == after).all(axis=-1)
    return bool(same.all() if untouched else same[~hide | keep].all())


def foreign_tokens(cases: Iterable[Case], folder: Path) -> int:
    """Original identifying values found in the files of the archive, in any letter case, UTF-8 or UTF-16."""
    tokens = {form for case in cases for token in case.tokens for form in _forms(token)}
    found = 0
    for file in sorted(folder.glob("*.dcm")):
        content = file.read_bytes().lower()
        found += sum(token in content for token in tokens)
    return found


def archive_is_exact(cases: Iterable[Case], pseudonyms: Pseudonyms, archive: Archive) -> bool:
    """The archive got the pseudonymous UID of every case that must arrive, each once, and nothing else."""
    wanted = {pseudonyms.uid(case.uid): 1 for case in cases if case.expected is State.FORWARDED}
    files = {file.stem for file in archive.folder.glob("*.dcm")}
    return dict(archive.received) == wanted and files == set(wanted)


class Sight:
    """Draws the masks that the gateway drew, with the same models and settings.

    Parameters
    ----------
    models
        Of the bundle the gateway used.
    pixels
        Its settings.
    """

    def __init__(self, models: Models, pixels: Pixels) -> None:
        self._models = models
        self._pixels = pixels

    def masks(
        self, frames: NDArray[np.uint8], case: Case, attempts: int
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """*hide* and *keep*, each bool (F, H, W), of frames uint8 RGB (F, H, W, 3).

        ``attempts`` is how often the gateway painted: past its limit the margin of kept lesions is given up.
        """
        pixels = self._pixels
        margin = pixels.keep_margin if attempts <= pixels.attempts else SMALLER_KEEP
        options = MaskOptions(case.rule, margin, pixels.hide_margin, KEEP_MOST[case.rule])
        plans = [plan(image, self._models, options) for image in frames]
        return np.stack([one.hide for one in plans]), np.stack([one.keep for one in plans])


def _frames(ds: Dataset) -> NDArray[np.uint8]:
    """uint8 RGB (F, H, W, 3), decoded by pydicom."""
    pixels = np.asarray(pixel_array(ds, raw=False), np.uint8)
    return pixels if pixels.ndim == 4 else pixels[np.newaxis]


def _share_kept(
    before: NDArray[np.uint8], after: NDArray[np.uint8], lesion: NDArray[np.bool_]
) -> float | None:
    if not lesion.any() or before.shape != after.shape:
        return None if not lesion.any() else 0.0
    return float((before == after).all(axis=-1)[lesion].mean())


def _forms(token: str) -> tuple[bytes, bytes]:
    lower = token.lower()
    return lower.encode(), lower.encode("utf-16-le")
