"""Is the person still known? Face recognisers as judges, over a gallery of originals and distractors.

Shape letters: G pictures of the gallery, D length of an embedding, P probes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inference.contract import Floats, Image
from inference.data.manifest import Photograph
from inference.evaluate import statistics
from inference.evaluate.looks import Look, Looks, Pack
from inference.evaluate.metrics import Measured
from inference.evaluate.scene import Scene, open_scene
from inference.evaluate.statistics import Figure, Values

FALSE_ACCEPT_RATES = (1e-2, 1e-3)
RANKS = (1, 5)
SAME_PHOTOGRAPH = 1.0
"""Median difference of two views of a face, in grey levels, below which they show one photograph, painted differently:
another photograph differs nearly everywhere."""
VIEW_PX = 48


@dataclass(frozen=True, slots=True, eq=False)
class Gallery:
    """Embeddings of original photographs by one judge.

    Attributes
    ----------
    embeddings
        float32 (G, D), unit length.
    patients
        Whose picture each is, G names.
    photographs
        Number of the photograph that each shows: renditions of one have one number. int64 (G,).
    names
        Of the photographs, G; probes are looked up by them.
    landmarks
        Five points (5, 2) of each face, by name.
    thresholds
        Cosine at each of :data:`FALSE_ACCEPT_RATES`.
    impostors
        Cosines of all pairs of different patients, sorted.
    """

    embeddings: Floats
    patients: NDArray[np.str_]
    photographs: NDArray[np.int64]
    names: tuple[str, ...]
    landmarks: dict[str, Floats]
    thresholds: tuple[float, ...]
    impostors: Values

    @property
    def persons(self) -> int:
        """How many persons it knows."""
        return len(set(self.patients.tolist()))


class Judge:
    """A face recogniser and what it knows of the original photographs.

    Parameters
    ----------
    folder
        A pack of ONNX files, not one that any method under test uses.
    tested, others
        Photographs that are anonymised; further ones, of which one of every patient is a distractor.
    looks
        Shared among judges.
    tick
        Called after each photograph.

    Raises
    ------
    inference.faces.analyser.PackUnusable
        The folder is no face pack.
    ValueError
        There are not two persons on whom a threshold could be set.
    """

    def __init__(
        self,
        folder: Path,
        tested: Sequence[Photograph],
        others: Sequence[Photograph] = (),
        *,
        looks: Looks | None = None,
        tick: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = folder.name
        self._pack, self._looks = Pack(folder), looks or Looks()
        self.pack = self._pack.analyser
        known = {one.patient for one in tested}
        distractors = {one.patient: one for one in reversed(others) if one.patient not in known}
        entries: list[tuple[str, str, Floats, Floats, Image]] = []
        for photograph in [*tested, *distractors.values()]:
            scene = open_scene(photograph)
            look = self.look(scene, scene.image)
            # A face that the border cuts so far that nobody could be told from it is in no gallery.
            if look.landmarks is not None and look.found is not None:
                view = scene.view(VIEW_PX).take(scene.image)
                entries.append((scene.name, photograph.patient, look.found, look.landmarks, view))
            tick()
        self.gallery = _gallery(entries)

    def look(self, scene: Scene, image: Image, landmarks: Floats | None = None) -> Look:
        """What it sees in a rendition of the scene, at the face found in it and at these landmarks."""
        return self._looks.at(self._pack, scene, image, landmarks)


def judges(
    folders: Sequence[Path],
    tested: Sequence[Photograph],
    others: Sequence[Photograph],
    looks: Looks,
    tick: Callable[[], None] = lambda: None,
) -> list[Judge]:
    """A judge of each folder; figures are told apart by the folders' names.

    Raises
    ------
    inference.faces.analyser.PackUnusable
        A folder is no face pack.
    ValueError
        Two have one name, or :class:`Judge` says so.
    """
    names = [folder.name for folder in folders]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"two face packs are called {twice[0]}; give each folder a name of its own")
    return [Judge(folder, tested, others, looks=looks, tick=tick) for folder in folders]


def _gallery(entries: Sequence[tuple[str, str, Floats, Floats, Image]]) -> Gallery:
    embeddings = np.stack([entry[2] for entry in entries]) if entries else np.zeros((0, 1), np.float32)
    patients = np.array([entry[1] for entry in entries], np.str_)
    numbers = np.arange(len(entries), dtype=np.int64)
    for index in range(len(entries)):
        for earlier in np.flatnonzero(patients[:index] == patients[index]):
            apart = np.abs(entries[index][4].astype(np.int16) - entries[int(earlier)][4].astype(np.int16))
            if float(np.median(apart)) < SAME_PHOTOGRAPH:
                numbers[index] = numbers[earlier]
                break
    first, second = np.triu_indices(len(entries), 1)
    different = patients[first] != patients[second]
    impostors = np.sort((embeddings @ embeddings.T)[first[different], second[different]].astype(np.float64))
    if not impostors.size:
        raise ValueError("Judging needs photographs of at least two patients in which a face is found.")
    return Gallery(
        embeddings=embeddings,
        patients=patients,
        photographs=numbers,
        names=tuple(entry[0] for entry in entries),
        landmarks={entry[0]: entry[3] for entry in entries},
        thresholds=tuple(statistics.threshold_at(impostors, rate) for rate in FALSE_ACCEPT_RATES),
        impostors=impostors,
    )


def ranks(scores: Floats, gallery: Gallery, probe: int, *, other_photograph: bool) -> int | None:
    """How many other persons look more like the probe than the patient does; None without a picture to compare.

    Parameters
    ----------
    scores
        Cosine (G,) of the probe to each picture of the gallery.
    probe
        Index in the gallery of the original of which the probe is made.
    other_photograph
        Leave out every rendition of the photograph from which the probe is made.
    """
    mine = gallery.patients == gallery.patients[probe]
    own = mine & (gallery.photographs != gallery.photographs[probe]) if other_photograph else mine
    if not own.any():
        return None
    better = gallery.patients[~mine & (scores >= scores[own].max())]
    return len(set(better.tolist()))


class Identity:
    """What one judge makes of a method's results.

    A result is compared at the face found in it and at the place of the original's face, and the likelier counts. It
    is *recognised* when that cosine with its own original reaches the threshold, whether or not a face is found;
    otherwise it has *no face*, or is *anonymised* with a face to show. The three shares make 1.
    """

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self.name = f"identity {judge.name}"
        self.reset()

    def reset(self) -> None:
        """Forget all results."""
        self._probes: list[int] = []
        self._found: list[bool] = []
        self._scores: list[Floats] = []

    def update(self, scene: Scene, result: Image, seconds: float) -> None:
        """See :class:`inference.evaluate.metrics.Metric`; an original without a face has nothing to compare."""
        del seconds
        gallery = self._judge.gallery
        if scene.name not in gallery.landmarks:
            return
        look = self._judge.look(scene, result, gallery.landmarks[scene.name])
        scores = [gallery.embeddings @ one for one in (look.placed, look.found) if one is not None]
        scores.append(-np.ones(len(gallery.names), np.float32))
        probe = gallery.names.index(scene.name)
        self.note(probe, np.max(scores, axis=0), found=look.landmarks is not None)

    def note(self, probe: int, scores: Floats, *, found: bool) -> None:
        """Take a probe's cosines (G,) into account; ``probe`` is the index of its original."""
        self._probes.append(probe)
        self._scores.append(scores)
        self._found.append(found)

    def compute(self) -> Measured:
        """Shares at each false accept rate, ranks in the gallery, and cosines to the own original."""
        gallery = self._judge.gallery
        if not self._probes:
            return Measured({})
        owners = [str(gallery.patients[probe]) for probe in self._probes]
        own = np.array(
            [scores[probe] for probe, scores in zip(self._probes, self._scores, strict=True)], np.float64
        )
        found = np.array(self._found)
        other = np.array(
            [self._other(probe, scores) for probe, scores in zip(self._probes, self._scores, strict=True)]
        )
        figures: dict[str, Figure] = {}
        series = {"own": own.tolist(), "other": other.tolist(), "found": found.astype(np.float64).tolist()}
        for rate, threshold in zip(FALSE_ACCEPT_RATES, gallery.thresholds, strict=True):
            known = ~(own < threshold)  # a cosine that is no number is no success
            for name, hits in (
                ("recognised", known), ("no face", ~known & ~found), ("anonymised", ~known & found),
                ("unrecognised", ~known),
            ):  # fmt: skip
                figures[f"{name} at {rate:g}"] = statistics.mean(hits.astype(np.float64), owners)
                series[f"{name} at {rate:g}"] = hits.astype(np.float64).tolist()
            seen = np.where(np.isfinite(other), (other >= threshold).astype(np.float64), np.nan)
            figures[f"recognised on another photograph at {rate:g}"] = statistics.mean(seen, owners)
        for name, apart in (("", False), (" on another photograph", True)):
            placed = [
                ranks(scores, gallery, probe, other_photograph=apart)
                for probe, scores in zip(self._probes, self._scores, strict=True)
            ]
            for rank in RANKS:
                hits = [float("nan") if place is None else float(place < rank) for place in placed]
                series[f"rank-{rank}{name}"] = hits
                figures[f"rank-{rank}{name}"] = statistics.mean(hits, owners)
        figures["cosine"] = statistics.mean(own, owners)
        return Measured(figures, series, owners, [gallery.names[probe] for probe in self._probes])

    def _other(self, probe: int, scores: Floats) -> float:
        """Largest cosine to another photograph of the probe's patient; NaN without one."""
        gallery = self._judge.gallery
        same = gallery.patients == gallery.patients[probe]
        same &= gallery.photographs != gallery.photographs[probe]
        return float(scores[same].max()) if same.any() else float("nan")
