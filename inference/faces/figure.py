"""``gateway-models calibrate``: the thresholds of a bundle's recogniser on a site's own people, and their curve.

Pictures are named by person, ``<person>_<anything>.jpg``, or lie in a folder of that name, two or more a person.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import NormalDist

import cv2
import numpy as np

from inference.contract import FaceAnalyser, Floats
from inference.faces.calibrate import Calibration, calibrate, pairs

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp"})


class NothingToCalibrate(Exception):
    """The folder does not hold what a calibration needs; the message says what is missing."""


def embedded(folder: Path, analyser: FaceAnalyser) -> tuple[Floats, list[str], list[str]]:
    """Embeddings (N, D) of the best face of each picture, whose they are, and the pictures that gave none.

    Raises
    ------
    NothingToCalibrate
        There are no pictures, or fewer than two that show a face.
    """
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES)
    if not files:
        raise NothingToCalibrate(f"{folder} holds no pictures; name them <person>_<anything>.jpg.")
    found: list[Floats] = []
    persons: list[str] = []
    without: list[str] = []
    for file in files:
        read = cv2.imread(str(file), cv2.IMREAD_COLOR)
        picture = np.zeros((1, 1, 3), np.uint8) if read is None else np.asarray(read[..., ::-1], np.uint8)
        faces = [] if read is None else analyser.find(np.ascontiguousarray(picture))
        try:
            found.append(analyser.embed(np.ascontiguousarray(picture), faces[0].landmarks))
        except (IndexError, ValueError):
            without.append(file.relative_to(folder).as_posix())
            continue
        person = file.parent.relative_to(folder).as_posix()
        persons.append(file.stem.partition("_")[0] if person == "." else person)
    if len(found) < 2:
        raise NothingToCalibrate(f"{folder} shows fewer than two faces that can be compared.")
    return np.stack(found), persons, without


def run(folder: Path, analyser: FaceAnalyser, out: Path) -> Calibration:
    """Calibrate on the pictures of ``folder``; writes ``calibration.json`` and ``det.png`` into ``out``.

    Raises
    ------
    NothingToCalibrate
        The pictures do not give pairs of one person and pairs of different persons.
    """
    vectors, persons, without = embedded(folder, analyser)
    try:
        found = calibrate(vectors, persons)
    except ValueError as error:
        raise NothingToCalibrate(f"{folder}: {error}.") from error
    out.mkdir(parents=True, exist_ok=True)
    shown = {"pictures": len(vectors), "persons": len(set(persons)), "without_face": without}
    report = {**found.as_dict(), **shown}
    (out / "calibration.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    plot(vectors, persons, found, out / "det.png")
    return found


def plot(vectors: Floats, persons: Sequence[str], found: Calibration, file: Path) -> None:
    """The detection error trade-off: false rejects over false accepts, both on the scale of normal deviates."""
    from matplotlib.figure import Figure

    def deviate(rates: Iterable[float]) -> list[float]:
        return [NormalDist().inv_cdf(min(max(float(rate), 1e-9), 1 - 1e-9)) for rate in rates]

    genuine, impostor = pairs(vectors, persons)
    steps = np.unique(np.concatenate([genuine, impostor]))
    rejects = np.searchsorted(genuine, steps, side="left") / len(genuine)
    accepts = 1 - np.searchsorted(impostor, steps, side="left") / len(impostor)
    ticks = [1e-4, 1e-3, 1e-2, 0.05, 0.2, 0.5]
    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.subplots()
    low, high = deviate([5e-5, 0.6])
    axes.plot(deviate(accepts), deviate(rejects), color="black")
    for rate in deviate([point.false_accept_rate for point in found.points]):
        axes.axvline(rate, linewidth=0.5, color="grey")
    axes.set(
        xlim=(low, high), ylim=(low, high), xlabel="different persons taken for one", ylabel="one person missed",
        title=f"equal error rate {found.eer:.1%} at cosine {found.eer_threshold:.2f}",
        xticks=deviate(ticks), yticks=deviate(ticks),
        xticklabels=[f"{tick:g}" for tick in ticks], yticklabels=[f"{tick:g}" for tick in ticks],
    )  # fmt: skip
    figure.savefig(file, dpi=120)
