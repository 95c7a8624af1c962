"""Train the face pack: a detector on drawn scenes, a recogniser on a teacher's answers."""

import argparse
import logging
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
import torch
from torch import Tensor

from inference.faces import course, detector, portraits, recogniser, scenes, strangers, unfold
from inference.faces.portraits import Portrait

log = logging.getLogger(__name__)

_USUAL_PX = 224
"""Side of the scenes of which a step takes exactly ``batch``."""


@dataclass(frozen=True, slots=True)
class DetectorTraining:
    """Table ``[detector]`` of ``conf/training/faces.toml``; see there for what each key means."""

    seed: int
    steps: int
    batch: int
    sizes_px: tuple[int, ...]
    width: int
    rate: float
    decay: float
    plates: int
    crowded: tuple[str, ...]
    checkpoint_every: int


@dataclass(frozen=True, slots=True)
class RecogniserTraining:
    """Table ``[recogniser]`` of ``conf/training/faces.toml``; see there for what each key means."""

    seed: int
    steps: int
    batch: int
    crops: int
    width: int
    rate: float
    decay: float
    relation: float
    checkpoint_every: int


Training = TypeVar("Training", DetectorTraining, RecogniserTraining)


class UnknownKey(Exception):
    """The configuration has a key that means nothing, or lacks one; the message names it."""


def configured(path: Path, table: str, kind: type[Training]) -> Training:
    """One table of the configuration file.

    Raises
    ------
    UnknownKey
        A key is missing or unknown.
    """
    values: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8")).get(table, {})
    wanted = {field.name for field in fields(kind)}
    if wanted != set(values):
        raise UnknownKey(f"[{table}] of {path} has unknown or missing keys: {sorted(wanted ^ set(values))}")
    given: dict[str, Any] = {
        key: tuple(each) if isinstance(each, list) else each for key, each in values.items()
    }
    return kind(**given)


def _plan(name: str, out: Path, config: DetectorTraining | RecogniserTraining) -> course.Plan:
    return course.Plan(
        name=name,
        checkpoint=out / f"{name}.pt",
        seed=config.seed,
        steps=config.steps,
        rate=config.rate,
        decay=config.decay,
        checkpoint_every=config.checkpoint_every,
    )


def _picture_tensor(images: Sequence[np.ndarray[Any, np.dtype[np.uint8]]]) -> Tensor:
    stacked = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    return ((stacked.float() - detector.MEAN) / detector.DEVIATION).contiguous(
        memory_format=torch.channels_last
    )


def _truth(drawn: Sequence[scenes.Scene]) -> detector.Truth:
    most = max(1, *(len(scene.boxes) for scene in drawn))
    count = len(drawn)
    boxes = torch.zeros(count, most, 4)
    landmarks = torch.zeros(count, most, 5, 2)
    present = torch.zeros(count, most, dtype=torch.bool)
    counted = torch.zeros(count, most, dtype=torch.bool)
    for index, scene in enumerate(drawn):
        faces = len(scene.boxes)
        boxes[index, :faces] = torch.from_numpy(scene.boxes)
        landmarks[index, :faces] = torch.from_numpy(scene.landmarks)
        present[index, :faces] = True
        counted[index, :faces] = torch.from_numpy(scene.counted)
    return detector.Truth(boxes, landmarks, present, counted)


def train_detector(
    config: DetectorTraining, people: Sequence[Portrait], out: Path, published: Path | None = None
) -> tuple[Path, float]:
    """Train the detector and export it after every checkpoint.

    Parameters
    ----------
    config
        The training's parameters.
    people
        The portraits scenes are drawn from; held-back ones must not be among them.
    out
        Folder for ``detector.pt`` (checkpoint, continued when present) and ``detector.onnx``.
    published
        An exported detector whose weights are the start; a checkpoint goes before it.

    Returns
    -------
    path, seconds
        The ONNX file and the time spent.
    """
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(config.seed)
    model = detector.Detector(config.width).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    people = [person for person in people if person.name not in config.crowded]
    backdrop = scenes.plates(np.random.default_rng(config.seed), people, config.plates)
    if published is not None:
        rng = np.random.default_rng(config.seed)
        drawn = [scenes.draw(rng, people, backdrop, _USUAL_PX) for _ in range(2 * config.batch)]
        unfold.unfold(published, model, _picture_tensor([scene.image for scene in drawn]))
    path = out / "detector.onnx"

    def step(rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        size = int(rng.choice(config.sizes_px))
        # As many scenes as keep the number of pixels: large ones teach what lies around a large face.
        count = round(config.batch * (_USUAL_PX / size) ** 2)
        count = min(max(count, 2), 2 * config.batch)
        drawn = [scenes.draw(rng, people, backdrop, size) for _ in range(count)]
        found = model(_picture_tensor([scene.image for scene in drawn]))
        loss = detector.loss(found, _truth(drawn), size)
        return loss.total, {"score": loss.score, "box": loss.box, "landmarks": loss.landmarks}

    seconds = course.run(
        model, step, _plan("detector", out, config), lambda averaged: detector.export(averaged, path)
    )
    return path, seconds


def train_recogniser(
    config: RecogniserTraining, people: Sequence[Portrait], teacher: strangers.Teacher, out: Path
) -> tuple[Path, float]:
    """Train the recogniser on a teacher's answers and export it after every checkpoint.

    Parameters
    ----------
    config
        The training's parameters.
    people
        The portraits strangers are mixed from; held-back ones must not be among them.
    teacher
        Whose answers are learnt.
    out
        Folder for ``answers/`` (made once), ``recogniser.pt`` (checkpoint, continued when present) and
        ``recogniser.onnx``.

    Returns
    -------
    path, seconds
        The ONNX file and the time spent on steps.
    """
    out.mkdir(parents=True, exist_ok=True)
    answers = strangers.answered(teacher, people, out / "answers", count=config.crops, seed=config.seed)
    torch.manual_seed(config.seed)
    model = recogniser.Recogniser(config.width).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    path = out / "recogniser.onnx"

    def step(rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        chosen = rng.choice(len(answers.crops), config.batch, replace=config.batch > len(answers.crops))
        others = rng.permutation(chosen)
        crops = np.stack(
            [
                strangers.disturbed(rng, answers.crops[each], answers.crops[other])
                for each, other in zip(chosen, others, strict=True)
            ]
        )
        fed = (torch.from_numpy(crops).permute(0, 3, 1, 2).float() - recogniser.MEAN) / recogniser.DEVIATION
        taught = torch.from_numpy(answers.embeddings[chosen].astype(np.float32))
        loss = recogniser.loss(
            model(fed.contiguous(memory_format=torch.channels_last)), taught, config.relation
        )
        return loss.total, {"cosine": loss.cosine, "relation": loss.relation}

    seconds = course.run(
        model, step, _plan("recogniser", out, config), lambda averaged: recogniser.export(averaged, path)
    )
    return path, seconds


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="gateway-models train faces", description=__doc__)
    parser.add_argument("part", choices=["detector", "recogniser"])
    parser.add_argument(
        "--data", type=Path, required=True, help="folder of portraits: faces.json and images/"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints and ONNX files")
    parser.add_argument("--teacher", type=Path, help="ONNX file of the 128-d recogniser to learn from")
    parser.add_argument("--published", type=Path, help="ONNX file of a detector to train further")
    parser.add_argument("--config", type=Path, default=Path("conf/training/faces.toml"))
    parser.add_argument("--steps", type=int, help="instead of the configuration's")
    parser.add_argument("--threads", type=int, default=0, help="threads to use; 0 leaves it to torch")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Train one part from the command line."""
    parser = _arguments()
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
        cv2.setNumThreads(arguments.threads)
    shorter = {"steps": arguments.steps} if arguments.steps else {}
    people = portraits.for_training(arguments.data)
    if arguments.part == "detector":
        detecting = replace(configured(arguments.config, "detector", DetectorTraining), **shorter)
        path, seconds = train_detector(detecting, people, arguments.out, arguments.published)
    else:
        if arguments.teacher is None:
            parser.error("the recogniser needs --teacher")
        recognising = replace(configured(arguments.config, "recogniser", RecogniserTraining), **shorter)
        teacher = recogniser.teacher(arguments.teacher, threads=max(1, arguments.threads))
        path, seconds = train_recogniser(recognising, people, teacher, arguments.out)
    log.info("%s written after %.0f s", path, seconds)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
