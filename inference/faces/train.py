"""Train the face pack: a detector on drawn scenes, a recogniser on a teacher's answers."""

import argparse
import logging
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from inference.faces import course, detector, portraits, scenes
from inference.faces.portraits import Portrait

log = logging.getLogger(__name__)


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
    checkpoint_every: int


class UnknownKey(Exception):
    """The configuration has a key that means nothing, or lacks one; the message names it."""


def configured(path: Path, table: str, kind: type[DetectorTraining]) -> DetectorTraining:
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
    return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})


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


def train_detector(config: DetectorTraining, people: Sequence[Portrait], out: Path) -> tuple[Path, float]:
    """Train the detector and export it after every checkpoint.

    Parameters
    ----------
    config
        The training's parameters.
    people
        The portraits scenes are drawn from; held-back ones must not be among them.
    out
        Folder for ``detector.pt`` (checkpoint, continued when present) and ``detector.onnx``.

    Returns
    -------
    path, seconds
        The ONNX file and the time spent.
    """
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(config.seed)
    model = detector.Detector(config.width).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    backdrop = scenes.plates(np.random.default_rng(config.seed), people, config.plates)
    path = out / "detector.onnx"

    def step(rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        size = int(rng.choice(config.sizes_px))
        drawn = [scenes.draw(rng, people, backdrop, size) for _ in range(config.batch)]
        found = model(_picture_tensor([scene.image for scene in drawn]))
        loss = detector.loss(found, _truth(drawn), size)
        return loss.total, {"score": loss.score, "box": loss.box, "landmarks": loss.landmarks}

    def publish(averaged: torch.nn.Module, at_step: int) -> None:
        del at_step
        assert isinstance(averaged, detector.Detector)
        detector.export(averaged, path)

    plan = course.Plan(config.seed, config.steps, config.rate, config.decay, config.checkpoint_every)
    _, seconds = course.run("detector", model, step, plan, out / "detector.pt", publish)
    return path, seconds


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m inference.faces.train", description=__doc__)
    parser.add_argument("part", choices=["detector"])
    parser.add_argument(
        "--data", type=Path, required=True, help="folder of portraits: faces.json and images/"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints and ONNX files")
    parser.add_argument("--config", type=Path, default=Path("conf/training/faces.toml"))
    parser.add_argument("--steps", type=int, help="instead of the configuration's")
    parser.add_argument("--threads", type=int, default=0, help="threads to use; 0 leaves it to torch")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Train one part from the command line."""
    arguments = _arguments().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
        cv2.setNumThreads(arguments.threads)
    config = configured(arguments.config, arguments.part, DetectorTraining)
    if arguments.steps:
        config = DetectorTraining(
            **{f.name: getattr(config, f.name) for f in fields(config)} | {"steps": arguments.steps}
        )
    path, seconds = train_detector(config, portraits.for_training(arguments.data), arguments.out)
    log.info("%s written after %.0f s", path, seconds)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
