"""Put trained faces models into a bundle, with the figures measured on them."""

import argparse
import json
import shutil
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from inference.faces import measure, portraits, scenes
from inference.faces.analyser import InsightFaceAnalyser
from inference.faces.calibrate import Calibration

PARTS = ("detector", "recogniser")

FACELESS, FACELESS_PX = 200, 512
"""How many pictures without a face are searched, and their side."""


class NothingTrained(Exception):
    """The run has no model to publish yet; the message names the file."""


@dataclass(frozen=True, slots=True)
class Training:
    """How far a part was trained.

    Attributes
    ----------
    steps
        Optimiser steps of the published weights.
    seconds
        Wall-clock time they took.
    """

    steps: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Figures:
    """Everything measured on one pack.

    Attributes
    ----------
    trained
        Per part.
    held_back, close_ups, strangers
        Detection on held-back portraits of the training's own set, on the same cut so that the face fills the
        picture, and on a set never used in training.
    false_alarms
        Faces found per picture of backgrounds and featureless skin made from the held-back portraits.
    calibration
        Recognition on the second set.
    """

    trained: dict[str, Training]
    held_back: measure.DetectionFigures
    close_ups: measure.DetectionFigures
    strangers: measure.DetectionFigures
    false_alarms: float
    calibration: Calibration


def _training(run: Path, part: str) -> Training:
    path = run / f"{part}.pt"
    if not path.exists() or not path.with_suffix(".onnx").exists():
        raise NothingTrained(f"there is no {part} to publish at {path}")
    state = torch.load(path, weights_only=True, map_location="cpu")
    return Training(int(state["step"]), float(state["seconds"]))


def publish(run: Path, pack: Path, *, trained_on: Path, london: Path, note: str = "") -> Figures:
    """Copy the models of a run into a pack, measure them there, and write its figures and calibration.

    Parameters
    ----------
    run
        Folder of the trainings' checkpoints and ONNX files.
    pack
        Receives ``detector.onnx``, ``recogniser.onnx``, ``calibration.json`` and ``FIGURES.md``.
    trained_on
        The portraits; the held-back ones are searched.
    london
        Portraits of other people, two of each person, named ``<person>_<expression>``.
    note
        What else a reader must know about this training; printed as it is.

    Raises
    ------
    NothingTrained
        A part has no checkpoint yet.
    """
    trained = {part: _training(run, part) for part in PARTS}
    pack.mkdir(parents=True, exist_ok=True)
    for part in PARTS:
        shutil.copyfile(run / f"{part}.onnx", pack / f"{part}.onnx")
    analyser = InsightFaceAnalyser(pack)
    people = portraits.read(london)
    held_back = portraits.for_validation(trained_on)
    rng = np.random.default_rng(0)
    backdrop = scenes.plates(rng, held_back, len(held_back))
    figures = Figures(
        trained=trained,
        held_back=measure.detection(analyser, held_back),
        close_ups=measure.detection(analyser, [measure.close_up(each) for each in held_back]),
        strangers=measure.detection(analyser, people),
        false_alarms=measure.false_alarms(
            analyser, [scenes.background(rng, backdrop, FACELESS_PX) for _ in range(FACELESS)]
        ),
        calibration=measure.recognition(analyser, people),
    )
    calibration = json.dumps(figures.calibration.as_dict(), indent=2) + "\n"
    (pack / "calibration.json").write_text(calibration, encoding="utf-8")
    sizes = {part: (pack / f"{part}.onnx").stat().st_size for part in PARTS}
    (pack / "FIGURES.md").write_text(described(figures, sizes, note), encoding="utf-8")
    return figures


def described(figures: Figures, sizes: dict[str, int], note: str) -> str:
    """The figures as a page for people (Markdown)."""
    calibration = figures.calibration
    lines = [
        "# Face pack of the nano bundle",
        "",
        "For trying, testing and developing. `detector.onnx` has the shape of SCRFD and `recogniser.onnx` that of",
        "ArcFace, so that `insightface.app.FaceAnalysis` loads this folder unchanged. It learnt from a few hundred",
        "portraits of adults in daylight and studio light; it is no verifier for production.",
        "",
        "## Trained",
        "",
        "```",
        "python -m inference.faces.train detector --data PORTRAITS --out RUN --threads 1",
        "python -m inference.faces.train recogniser --data PORTRAITS --out RUN --threads 1 --teacher TEACHER",
        "python -m inference.faces.publish --run RUN --pack bundles/nano/faces --data PORTRAITS --london LONDON",
        "```",
        "",
        "Parameters: `conf/training/faces.toml`. Portraits: 386 of the 436 official portraits of",
        "CivilServiceUSA/us-house (US government works, public domain); 50 are held back (`inference/split.py`).",
        "Teacher: a 128-d MobileFaceNet under Apache-2.0 (`mobilefacenet_foamliu_128.onnx`), asked about faces",
        "mixed from those portraits. One thread of a CPU shared with other work: the seconds are wall-clock and",
        "no promise.",
        "",
        *([*textwrap.wrap(note, 108), ""] if note else []),
        "| part | steps | seconds | bytes |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {part} | {training.steps} | {training.seconds:.0f} | {sizes[part]} |"
        for part, training in figures.trained.items()
    ]
    lines += [
        "",
        "## Detection",
        "",
        "Default sizes (128 and 640 together), threshold 0.5, found when the overlap is at least 0.4. Landmark",
        "error is the mean distance as a share of the distance between the eyes.",
        "",
        "| data | pictures | recall | false positives a picture | landmark error |",
        "|---|---|---|---|---|",
    ]
    searched = (
        ("held-back portraits", figures.held_back),
        ("the same, the face filling the picture", figures.close_ups),
        ("London set", figures.strangers),
    )
    for name, found in searched:
        lines.append(
            f"| {name} | {found.pictures} | {found.recall:.3f} | {found.false_positives:.3f} "
            f"| {found.landmark_error:.3f} |"
        )
    lines += [
        "",
        f"In {FACELESS} backgrounds and pieces of featureless skin, made from the held-back portraits,",
        f"{figures.false_alarms:.3f} faces a picture were found that are none.",
        "",
        "## Recognition",
        "",
        "London set: 51 persons, neutral and smiling, aligned by the landmarks found; all cross pairs are impostors.",
        f"EER {calibration.eer:.4f} at cosine {calibration.eer_threshold:.3f}.",
        "",
        "| false accept rate | threshold | true accept rate |",
        "|---|---|---|",
    ]
    lines += [
        f"| {point.false_accept_rate:g} | {point.threshold:.3f} | {point.true_accept_rate:.3f} |"
        for point in calibration.points
    ]
    lines += [
        "",
        "| pairs | count | mean | deviation | least | 1 % | median | 99 % | most |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, spread in (("one person", calibration.genuine), ("different persons", calibration.impostor)):
        low, middle, high = spread.percentile_1, spread.median, spread.percentile_99
        values = (spread.mean, spread.deviation, spread.least, low, middle, high, spread.most)
        lines.append(f"| {name} | {spread.count} | " + " | ".join(f"{value:.3f}" for value in values) + " |")
    lines += [
        "",
        "London set: Face Research Lab London Set (DeBruine & Jones, 2017), CC BY 4.0; used for measuring only.",
        "The thresholds are calibrated on the very pairs they are reported on: neutral light, frontal, young adults.",
        "A site calibrates on its own people.",
        "",
    ]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Publish from the command line."""
    parser = argparse.ArgumentParser(prog="python -m inference.faces.publish", description=__doc__)
    parser.add_argument("--run", type=Path, required=True, help="folder of the trainings")
    parser.add_argument("--pack", type=Path, required=True, help="folder of the face pack to write")
    parser.add_argument("--data", type=Path, required=True, help="folder of portraits trained on")
    parser.add_argument(
        "--london", type=Path, required=True, help="folder of other people, two portraits each"
    )
    parser.add_argument("--note", default="", help="what else a reader must know about this training")
    arguments = parser.parse_args(argv)
    publish(
        arguments.run, arguments.pack, trained_on=arguments.data, london=arguments.london, note=arguments.note
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
