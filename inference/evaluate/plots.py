"""The report's pictures: ROC curves, how cosines are spread, and sheets of before and after."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from inference.anonymize import BLANK
from inference.contract import Image
from inference.data.manifest import Photograph
from inference.evaluate.identity import FALSE_ACCEPT_RATES, Judge
from inference.evaluate.loop import Evaluated, Results
from inference.evaluate.methods import Method
from inference.evaluate.scene import open_scene

SHEET = 8
"""Photographs on a sheet."""
PANEL_PX = 180
DOTS = 500
"""Pairs of different persons that are drawn."""


def _axes(columns: int, width: float) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(1, columns, squeeze=False)[0]


def curve(
    scores: NDArray[np.float64], positive: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """False and true positive rates as the threshold falls, from (0, 0) to (1, 1)."""
    order = np.argsort(-scores, kind="stable")
    hits = positive[order]
    last = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    true = np.concatenate([[0.0], np.cumsum(hits)[last] / max(int(hits.sum()), 1)])
    false = np.concatenate([[0.0], np.cumsum(~hits)[last] / max(int((~hits).sum()), 1)])
    return false, true


def rocs(found: Sequence[Evaluated], judges: Sequence[Judge], file: Path) -> None:
    """Verification of anonymised against own original, a panel for each judge, and the mean curve of the diseases."""
    told = [
        method for method in found if "diseases" in method.measured and method.measured["diseases"].series
    ]
    figure, axes = _axes(len(judges) + bool(told), 4.6 * (len(judges) + bool(told)))
    for axis, judge in zip(axes, judges, strict=False):
        for method in found:
            own = np.array(method.measured[f"identity {judge.name}"].series.get("own", []))
            impostors = judge.gallery.impostors
            truth = np.arange(len(own) + len(impostors)) < len(own)
            false, true = curve(np.concatenate([own, impostors]), truth)
            axis.plot(np.maximum(false, 1e-4), true, label=method.name)
        chance = np.geomspace(1e-4, 1, 100)
        axis.plot(chance, chance, "k:", linewidth=1, label="a stranger, by definition")
        axis.set(xscale="log", xlim=(1e-4, 1), ylim=(0, 1.02), xlabel="false accept rate",
                 ylabel="share recognised", title=f"persons, by {judge.name}")  # fmt: skip
    if told:
        grid = np.linspace(0, 1, 201)
        for method in told:
            series = method.measured["diseases"].series
            truth = np.array(series["truth"], np.int64)
            names = [name for name in series if f"original {name}" in series]
            lines = [
                np.interp(grid, *curve(np.array(series[name]), truth == index))
                for index, name in enumerate(names)
                if 0 < (truth == index).sum() < len(truth)
            ]
            if lines:
                axes[-1].plot(grid, np.mean(lines, axis=0), label=method.name)
        axes[-1].set(
            xlabel="false positive rate", ylabel="true positive rate", title="diseases, mean over one-vs-rest"
        )
    axes[-1].legend(fontsize=8, loc="lower right")
    figure.savefig(file, dpi=110)


def spread(found: Sequence[Evaluated], judges: Sequence[Judge], file: Path) -> None:
    """Cosines between results and own originals, a row of dots for each method, below those of different persons."""
    figure, axes = _axes(len(judges), 6.0 * len(judges))
    rows = ["different persons", *(method.name for method in found)]
    draw = np.random.default_rng(0)
    for axis, judge in zip(axes, judges, strict=True):
        told = [method.measured[f"identity {judge.name}"].series.get("own", []) for method in found]
        impostors = judge.gallery.impostors
        told.insert(0, draw.choice(impostors, min(len(impostors), DOTS), replace=False).tolist())
        for row, cosines in enumerate(told):
            height = row + draw.uniform(-0.3, 0.3, len(cosines))
            axis.plot(
                cosines, height, ".", markersize=4, alpha=0.5, color="0.5" if row == 0 else f"C{row - 1}"
            )
            if cosines:
                axis.plot([np.median(cosines)] * 2, [row - 0.4, row + 0.4], color="k", linewidth=1.5)
        for rate, threshold in zip(FALSE_ACCEPT_RATES, judge.gallery.thresholds, strict=True):
            axis.axvline(threshold, color="k", linestyle=":", linewidth=1)
            axis.text(threshold, 0.5, f"FAR {rate:g} ", va="top", ha="right", rotation=90, fontsize=8)
        axis.set(
            xlabel="cosine to the own original; the stroke is the median", title=judge.name, xlim=(-0.4, 1.03)
        )
        axis.set_yticks(range(len(rows)), rows, fontsize=8)
        axis.set_ylim(len(rows) - 0.5, -0.5)
    figure.savefig(file, dpi=110)


def sheet(method: Method, photographs: Sequence[Photograph], results: Results, file: Path) -> None:
    """Before above after, grey where it is withheld, for photographs evenly taken from all."""
    chosen = np.linspace(0, len(photographs) - 1, min(SHEET, len(photographs))).round().astype(int)
    columns: list[Image] = []
    for index in chosen:
        scene = open_scene(photographs[int(index)])
        result = results.of(method, scene).image
        crop = scene.view(PANEL_PX)
        before = crop.take(scene.image)
        columns.append(
            np.concatenate([before, np.full_like(before, BLANK) if result is None else crop.take(result)])
        )
    page = np.concatenate(columns, axis=1)
    if not cv2.imwrite(str(file), np.ascontiguousarray(page[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, 88]):
        raise OSError(f"{file} cannot be written")
