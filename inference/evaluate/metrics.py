"""What is measured of one method: objects with reset, update and compute; here those that compare two pictures.

Shape letters: H × W native size, S side of a view.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.color import deltaE_ciede2000

from inference.contract import Floats, Image, Mask
from inference.data.manifest import Photograph
from inference.evaluate import statistics
from inference.evaluate.classifier import Classifier
from inference.evaluate.scene import Scene
from inference.evaluate.statistics import Figure, Values


@dataclass(frozen=True, slots=True)
class Measured:
    """What a metric found on one method's results.

    Attributes
    ----------
    figures
        By name, as the report prints them.
    series
        One value a picture by name, for plots and for comparing methods picture by picture.
    patients, pictures
        Whose picture each value of a series is of, and of which one: its name.
    """

    figures: Mapping[str, Figure]
    series: Mapping[str, list[float]] = field(default_factory=dict)
    patients: Sequence[str] = ()
    pictures: Sequence[str] = ()


class Metric(Protocol):
    """Adds up over the results of one method."""

    @property
    def name(self) -> str:
        """Unique in a report."""

    def reset(self) -> None:
        """Forget all results: another method begins."""

    def update(self, scene: Scene, result: Image, seconds: float) -> None:
        """Take one result, uint8 RGB (H, W, 3), into account."""

    def compute(self) -> Measured:
        """The figures over all results since the reset."""


class Means:
    """A metric that is the mean of values, each of one picture."""

    name = ""

    def __init__(self) -> None:
        self._values: dict[str, list[float]] = {}
        self._patients: list[str] = []
        self._pictures: list[str] = []

    def reset(self) -> None:
        """Forget all results."""
        self._values, self._patients, self._pictures = {}, [], []

    def note(self, scene: Scene, **values: float) -> None:
        """Take the values of one picture into account; NaN does not count."""
        self._patients.append(scene.photograph.patient)
        self._pictures.append(scene.name)
        for name, value in values.items():
            self._values.setdefault(name, []).append(value)

    def compute(self) -> Measured:
        """The mean of each value with its interval over patients."""
        return Measured(
            {name: statistics.mean(values, self._patients) for name, values in self._values.items()},
            self._values,
            self._patients,
            self._pictures,
        )


class Leaving(Means):
    """What a method gives out, and what it withholds: ``withheld``, and ``held: <why>`` for each reason."""

    name = "leaving"

    def reset(self) -> None:
        """Forget all results."""
        super().reset()
        self._why: list[str] = []

    def __init__(self) -> None:
        super().__init__()
        self._why = []

    def note_held(self, scene: Scene, held: str) -> None:
        """Take one result into account: why it is withheld, empty where it is not."""
        self.note(scene, withheld=float(bool(held)))
        self._why.append(held)

    def compute(self) -> Measured:
        """The share that is withheld, with its interval over patients, and the share of each reason."""
        measured = super().compute()
        shares = {why: self._why.count(why) / len(self._why) for why in sorted({*self._why} - {""})}
        reasons = {f"held: {why}": Figure(share, share, share) for why, share in shares.items()}
        return replace(measured, figures={**measured.figures, **reasons})


class Lesions(Means):
    """Colour and identity of the pixels that are labelled as lesion; pictures without any do not count.

    ``lesion_delta_e`` is the mean CIEDE2000 difference, ``lesion_identical`` the share of pixels equal in all
    channels.
    """

    name = "lesions"

    def update(self, scene: Scene, result: Image, seconds: float) -> None:
        """See :class:`Metric`."""
        del seconds
        before, after = scene.image[scene.lesion], result[scene.lesion]
        if not len(before):
            self.note(scene, lesion_delta_e=float("nan"), lesion_identical=float("nan"))
            return
        apart = delta_e(_lab(before[None])[0], _lab(after[None])[0])
        self.note(
            scene,
            lesion_delta_e=float(apart.mean()),
            lesion_identical=float((before == after).all(-1).mean()),
        )


class Seams(Means):
    """How visible the outline of what was changed is.

    ``seam`` is the median CIEDE2000 difference across that outline, less that across the same line of the original;
    0 where nothing was changed.
    """

    name = "seams"

    def update(self, scene: Scene, result: Image, seconds: float) -> None:
        """See :class:`Metric`."""
        del seconds
        changed = (result != scene.image).any(-1).astype(np.uint8)
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (7, 7))
        whole = cv2.morphologyEx(cv2.morphologyEx(changed, cv2.MORPH_CLOSE, disc), cv2.MORPH_OPEN, disc) > 0
        if not whole.any():
            self.note(scene, seam=0.0)
            return
        ys, xs = np.nonzero(whole)
        near = (slice(max(ys.min() - 4, 0), ys.max() + 5), slice(max(xs.min() - 4, 0), xs.max() + 5))
        after, before = (across(picture[near], np.asarray(whole[near])) for picture in (result, scene.image))
        self.note(scene, seam=float(np.median(after - before)) if after.size else 0.0)


def across(image: Image, mask: Mask) -> Values:
    """CIEDE2000 across the outline of ``mask`` (H, W): each pixel just outside against the mean of those inside."""
    square = np.ones((3, 3), np.uint8)
    solid = mask.astype(np.uint8)
    rim_in = (mask & (cv2.erode(solid, square) == 0)).astype(np.float32)
    rim_out = (cv2.dilate(solid, square) > 0) & ~mask
    lab = _lab(np.asarray(cv2.GaussianBlur(image, (3, 3), 0), np.uint8))
    # A window of 5 × 5 about each pixel: the mean colour of the inner rim there.
    count = cv2.boxFilter(rim_in, -1, (5, 5), normalize=False)
    summed = cv2.boxFilter(lab * rim_in[..., None], -1, (5, 5), normalize=False)
    points = rim_out & (count > 0.5)
    return delta_e(summed[points] / count[points][:, None], lab[points])


def delta_e(first: Floats, second: Floats) -> Values:
    """CIEDE2000 (Sharma, Wu and Dalal, 2005), float64 (N,), of CIELAB colours (N, 3)."""
    if not len(first):
        return np.zeros(0)
    return np.asarray(deltaE_ciede2000(first, second), np.float64)  # type: ignore[no-untyped-call]


def _lab(image: Image) -> Floats:
    """CIELAB (D65) float32 (H, W, 3) of uint8 RGB."""
    return np.asarray(cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB), np.float32)


class Seconds(Means):
    """Seconds a photograph on this machine, all steps of the method included."""

    name = "seconds"

    def update(self, scene: Scene, result: Image, seconds: float) -> None:
        """See :class:`Metric`."""
        del result
        self.note(scene, seconds=seconds)


class Diseases:
    """How well a judge trained on originals still tells the disease: one-vs-rest areas under the ROC curve.

    ``auc_before`` and ``auc_after`` are means over the diseases (normal is one of them), ``retention`` their quotient.
    A disease that the judge never learnt does not count.
    """

    name = "diseases"

    def __init__(self, classifier: Classifier) -> None:
        self._judge = classifier
        self._before: dict[str, NDArray[np.float32]] = {}
        self.reset()

    def reset(self) -> None:
        """Forget all results; what the judge said of originals is kept."""
        self._rows: list[tuple[NDArray[np.float32], NDArray[np.float32], int, Photograph]] = []

    def update(self, scene: Scene, result: Image, seconds: float) -> None:
        """See :class:`Metric`."""
        del seconds
        if scene.photograph.disease not in self._judge.diseases:
            return
        crop = scene.view(self._judge.size_px)
        if scene.name not in self._before:
            self._before[scene.name] = self._judge.predict(crop.take(scene.image)[None])[0]
        after = self._judge.predict(crop.take(result)[None])[0]
        named = self._judge.diseases.index(scene.photograph.disease)
        self._rows.append((self._before[scene.name], after, named, scene.photograph))

    def compute(self) -> Measured:
        """Areas before and after, and retention, each with its interval over patients."""
        if not self._rows:
            return Measured({})
        before, after = np.stack([row[0] for row in self._rows]), np.stack([row[1] for row in self._rows])
        named = np.array([row[2] for row in self._rows])
        patients = [row[3].patient for row in self._rows]
        drawings = statistics.resamples(patients)

        def area(probabilities: NDArray[np.float32]) -> Figure:
            return statistics.interval(
                lambda index: statistics.one_vs_rest(probabilities[index], named[index].tolist())[1],
                drawings, len(named),
            )  # fmt: skip

        def kept(index: NDArray[np.intp]) -> float:
            truth = named[index].tolist()
            whole = statistics.one_vs_rest(before[index], truth)[1]
            # Of a judge who is always wrong about the originals nothing can be retained.
            return statistics.one_vs_rest(after[index], truth)[1] / whole if whole > 0 else float("nan")

        areas = {"before": statistics.one_vs_rest(before, named.tolist())[0],
                 "after": statistics.one_vs_rest(after, named.tolist())[0]}  # fmt: skip
        figures = {"auc_before": area(before), "auc_after": area(after)}
        figures["retention"] = statistics.interval(kept, drawings, len(named))
        for side, found in areas.items():
            for disease, value in zip(self._judge.diseases, found, strict=True):
                figures[f"auc_{side} {disease}"] = Figure(float(value), float(value), float(value))
        series = {"truth": [float(one) for one in named]}
        for column, disease in enumerate(self._judge.diseases):
            series[disease] = [float(one) for one in after[:, column]]
            series[f"original {disease}"] = [float(one) for one in before[:, column]]
        return Measured(figures, series, patients, [row[3].name for row in self._rows])
