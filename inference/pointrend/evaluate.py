"""How good a segmenter is: lesions, parts of the face, and whether a close-up gives a person away.

``python -m inference.pointrend.evaluate --bundle bundles/nano/segmenter --data …`` prints them as JSON.
Shape letters: H × W native size, S the segmenter's square, C classes. Images are uint8 RGB.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from inference.contract import CLASSES, DISEASES, Face, Floats, Image, Segmenter
from inference.pointrend import scenes
from inference.pointrend.data import Stance, crop
from inference.pointrend.letterbox import letterbox, unletterbox
from inference.pointrend.scenes import FEATURES, LESION, Scene
from inference.regions import segment
from inference.split import held_back

DILATION = 0.02
"""What *hide* grows by in the pipeline, as a share of a picture's width."""

IDENTITY = [CLASSES.index(name) for name in ("skin", "brow", "eye", "nose", "mouth")]

Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Quality:
    """Figures of one way to segment; pixels of all pictures are counted together.

    Attributes
    ----------
    iou, recall, precision
        By class name, in [0, 1]; NaN where a class never occurs.
    feature_miou
        Mean IoU of brow, eye, nose and mouth.
    lesion_iou_by_disease
        By disease.
    """

    iou: dict[str, float]
    recall: dict[str, float]
    precision: dict[str, float]
    feature_miou: float
    lesion_iou_by_disease: dict[str, float]


@dataclass(frozen=True, slots=True)
class CloseUps:
    """How much of what identifies a person lies inside *hide*, over random close-ups.

    Attributes
    ----------
    pictures
        Close-ups that show any part of a face.
    recall, recall_undilated
        Share of brow, eye, nose and mouth pixels covered, with and without the dilation, by class name.
    pictures_above
        Share of pictures of which every visible part is covered to at least 0.9, and to at least 0.5.
    worst
        The smallest recall of one part in one picture (parts of 50 pixels or more).
    """

    pictures: int
    recall: dict[str, float]
    recall_undilated: dict[str, float]
    pictures_above: dict[str, float]
    worst: float


def probabilities(segmenter: Segmenter, image: Image) -> Floats:
    """Class probabilities (C, H, W) of a whole picture through the letterbox."""
    square, placed = letterbox(image, segmenter.size_px)
    return unletterbox(segmenter.segment(square[None])[0], placed)


def count(truth: NDArray[np.uint8], found: NDArray[np.uint8]) -> Counts:
    """Confusion counts (C, C): truth by rows, prediction by columns."""
    classes = len(CLASSES)
    joint = np.bincount(truth.ravel().astype(np.int64) * classes + found.ravel(), minlength=classes**2)
    return joint.reshape(classes, classes)


def quality(counts: dict[str, Counts]) -> Quality:
    """Figures from confusion counts by disease (``"none"`` for healthy skin)."""
    total = np.sum(list(counts.values()), axis=0)
    iou, recall, precision = {}, {}, {}
    for index, name in enumerate(CLASSES):
        hit, truth, found = total[index, index], total[index].sum(), total[:, index].sum()
        iou[name] = _ratio(hit, truth + found - hit)
        recall[name], precision[name] = _ratio(hit, truth), _ratio(hit, found)
    by_disease = {}
    for disease, joint in counts.items():
        hit = joint[LESION, LESION]
        by_disease[disease] = _ratio(hit, joint[LESION].sum() + joint[:, LESION].sum() - hit)
    by_disease.pop("none", None)
    return Quality(iou, recall, precision, float(np.mean([iou[name] for name in FEATURES])), by_disease)


def _ratio(part: np.integer, whole: np.integer) -> float:
    return float(part / whole) if whole else float("nan")


def examples(data: Path, limit: int | None = None) -> list[tuple[str, Scene, dict[str, list[float]]]]:
    """Held-back portraits: name, scene, and the entry of ``faces.json``, in the order of their names."""
    everyone = scenes.names(data)
    wanted = sorted(held_back(everyone))[:limit]
    faces = {face["name"]: face for face in json.loads((data / "faces.json").read_text(encoding="utf-8"))}
    return [(name, scene, faces[name]) for name, scene in zip(wanted, scenes.load(data, wanted), strict=True)]


def portraits(
    segmenter: Segmenter, held: Sequence[tuple[str, Scene, dict[str, list[float]]]], seed: int = 7
) -> dict[str, Quality]:
    """Quality on held-back portraits with lesions: one look at the whole, and a second one at the upright face.

    Each portrait is seen healthy and with two diseases, so that every disease is met equally often.
    """
    whole: dict[str, Counts] = {}
    crops: dict[str, Counts] = {}
    for number, (_, scene, face) in enumerate(held):
        found = Face(np.array(face["box"], np.float32), np.array(face["landmarks5"], np.float32), 1.0)
        for disease in ("none", DISEASES[number % 5], DISEASES[(number + 2) % 5]):
            shown = scene if disease == "none" else scenes.diseased(scene, disease, seed * 1000 + number)
            first = probabilities(segmenter, shown.image)
            both = segment(shown.image, [found], segmenter).probabilities
            for tally, values in ((whole, first), (crops, both)):
                joint = count(shown.labels, values.argmax(axis=0).astype(np.uint8))
                tally[disease] = tally.get(disease, 0) + joint
    return {"whole": quality(whole), "face crop": quality(crops)}


def close_ups(
    segmenter: Segmenter,
    held: Sequence[tuple[str, Scene, dict[str, list[float]]]],
    pictures: int = 200,
    seed: int = 11,
) -> CloseUps:
    """Random close-ups (2–5×, any turn, half of them diseased) of held-back portraits, centred on the face.

    A pixel of brow, eye, nose or mouth counts as covered where the identity classes are together more
    likely than not, dilated by :data:`DILATION`; a lesion that is kept is not asked for.
    """
    rng = np.random.default_rng(seed)
    size, parts = segmenter.size_px, list(FEATURES.items())
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * round(DILATION * size) + 1,) * 2)
    pixels, covered, bare = np.zeros(4), np.zeros(4), np.zeros(4)
    least: list[float] = []
    for number in range(pictures):
        scene = held[number % len(held)][1]
        if rng.random() < 0.5:
            scene = scenes.diseased(scene, DISEASES[number % 5], seed * 1000 + number)
        ys, xs = np.nonzero(scene.labels)
        pick = int(rng.integers(len(ys)))
        centre = (float(xs[pick]), float(ys[pick]))
        stance = Stance(float(rng.uniform(2.0, 5.0)), float(rng.uniform(0, 360)), centre)
        view = crop(scene, rng, size, stance)
        hide = (segmenter.segment(view.image[None])[0, IDENTITY].sum(axis=0) > 0.5).astype(np.uint8)
        grown = cv2.dilate(hide, kernel)
        worst = 1.0
        for index, (_, label) in enumerate(parts):
            there = view.labels == label
            area = int(there.sum())
            pixels[index] += area
            covered[index] += int(grown[there].sum())
            bare[index] += int(hide[there].sum())
            if area >= 50:
                worst = min(worst, float(grown[there].mean()))
        if (view.labels > 0).any():
            least.append(worst)
    return CloseUps(
        pictures=len(least),
        recall={name: float(covered[i] / max(pixels[i], 1)) for i, (name, _) in enumerate(parts)},
        recall_undilated={name: float(bare[i] / max(pixels[i], 1)) for i, (name, _) in enumerate(parts)},
        pictures_above={str(limit): float(np.mean(np.array(least) >= limit)) for limit in (0.9, 0.5)},
        worst=float(min(least)) if least else float("nan"),
    )


def bare_skin(segmenter: Segmenter, pictures: int = 40, seed: int = 13) -> dict[str, float]:
    """Skin without a face: share of pixels wrongly named identity, and IoU of the lesions."""
    wrong, total = 0, 0
    joint = np.zeros((len(CLASSES), len(CLASSES)), np.int64)
    for number in range(pictures):
        scene = scenes.bare_skin(segmenter.size_px, seed * 1000 + number)
        found = segmenter.segment(scene.image[None])[0].argmax(axis=0).astype(np.uint8)
        wrong += int(np.isin(found, IDENTITY).sum())
        total += found.size
        joint += count(scene.labels, found)
    hit = joint[LESION, LESION]
    return {
        "identity_share": wrong / total,
        "lesion_iou": _ratio(hit, joint[LESION].sum() + joint[:, LESION].sum() - hit),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line and prints the figures."""
    from inference.pointrend.segmenter import PointRendSegmenter

    parser = argparse.ArgumentParser(prog="python -m inference.pointrend.evaluate", description=__doc__)
    parser.add_argument(
        "--bundle", type=Path, required=True, help="folder with config.yaml and model.safetensors"
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of portraits with faces.json")
    parser.add_argument(
        "--limit", type=int, default=None, help="number of held-back portraits, all by default"
    )
    parser.add_argument("--close-ups", type=int, default=200, help="number of close-ups")
    given = parser.parse_args(argv)
    cv2.setNumThreads(1)
    segmenter = PointRendSegmenter(given.bundle)
    held = examples(given.data, given.limit)
    began = time.monotonic()
    figures = {name: asdict(value) for name, value in portraits(segmenter, held).items()}
    figures["close-ups"] = asdict(close_ups(segmenter, held, given.close_ups))
    figures["bare skin"] = bare_skin(segmenter)
    figures["seconds"] = {"evaluation": round(time.monotonic() - began, 1)}
    print(json.dumps(figures, indent=1, default=float))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
