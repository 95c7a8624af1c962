"""``python -m inference.pointrend.train``: trains the segmenter; the same command resumes it."""

import argparse
import math
import time
import tomllib
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from inference.pointrend import scenes
from inference.pointrend.config import PointRendConfig
from inference.pointrend.data import Samples
from inference.pointrend.losses import pointrend_losses
from inference.pointrend.model import PointRend, channels_last
from inference.pointrend.weights import load_weights, write_weights
from inference.split import held_back


@dataclass(frozen=True, slots=True)
class Recipe:
    """What decides a run's result, besides the data; the keys of ``conf/training/segment.toml``."""

    seed: int = 1
    batch: int = 8
    steps: int = 3200
    peak_rate: float = 1.5e-3
    weight_decay: float = 0.02
    ema: float = 0.998
    small_px: int = 192
    small_share: float = 0.5
    size_px: int = 256
    class_weights: tuple[float, ...] = (1.0, 1.1, 1.5, 1.7, 1.3, 1.3, 1.4)
    checkpoint_every: int = 200
    threads: int = 1
    workers: int = 1

    @classmethod
    def from_toml(cls, path: Path) -> "Recipe":
        """Reads a recipe.

        Raises
        ------
        ValueError
            An unknown key, or no TOML.
        """
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        unknown = set(content) - {field.name for field in fields(cls)}
        if unknown:
            raise ValueError(f"{path.name} has unknown keys: {', '.join(sorted(unknown))}")
        if "class_weights" in content:
            content["class_weights"] = tuple(float(w) for w in content["class_weights"])
        return cls(**content)

    def size_at(self, index: int) -> int:
        """Side of sample ``index``, pixels."""
        return self.small_px if index // self.batch < self.small_share * self.steps else self.size_px

    def rate_at(self, step: int) -> float:
        """Learning rate: a linear rise over the first 8 %, then a cosine down to a hundredth of the peak."""
        rise = max(0.08 * self.steps, 1.0)
        if step < rise:
            return self.peak_rate * (0.05 + 0.95 * step / rise)
        along = (step - rise) / max(self.steps - rise, 1.0)
        return self.peak_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(along, 1.0))))


class Training:
    """The state of a run: model, running average, optimiser, step."""

    def __init__(self, config: PointRendConfig, recipe: Recipe) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe = recipe
        self.model = channels_last(PointRend(config)).train()
        self.average = deepcopy(self.model).eval().requires_grad_(requires_grad=False)
        plain = [p for p in self.model.parameters() if p.ndim < 2]
        decayed = [p for p in self.model.parameters() if p.ndim >= 2]
        groups = [
            {"params": decayed, "weight_decay": recipe.weight_decay},
            {"params": plain, "weight_decay": 0.0},
        ]
        self.optimiser = torch.optim.AdamW(groups, lr=recipe.peak_rate, fused=True)
        self.class_weights = torch.tensor(recipe.class_weights)
        self.done = 0

    def start_from(self, path: Path) -> None:
        """Begins with another run's weights instead of random ones."""
        load_weights(self.model, path)
        self.average.load_state_dict(self.model.state_dict())

    def step(self, images: Tensor, labels: Tensor) -> tuple[float, float]:
        """One update from uint8 RGB (N, S, S, 3) and labels (N, S, S); returns coarse and point loss.

        Raises
        ------
        FloatingPointError
            The loss is not a number.
        """
        # Points of step n are the same whether or not the run was interrupted before.
        source = torch.Generator().manual_seed(self.recipe.seed * 1_000_003 + self.done)
        bgr = images.permute(0, 3, 1, 2).flip(1).float().contiguous(memory_format=torch.channels_last)
        for group in self.optimiser.param_groups:
            group["lr"] = self.recipe.rate_at(self.done)
        coarse, point = pointrend_losses(self.model, bgr, labels.long(), self.class_weights, source)
        loss = coarse + point
        if not bool(torch.isfinite(loss)):
            raise FloatingPointError(f"the loss of step {self.done} is not finite")
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 5.0)
        self.optimiser.step()
        self.done += 1
        # A short memory at first, so that the average does not hold on to the random start.
        keep = min(self.recipe.ema, (1 + self.done) / (10 + self.done))
        with torch.no_grad():
            for mean, now in zip(
                self.average.state_dict().values(), self.model.state_dict().values(), strict=True
            ):
                if mean.is_floating_point():
                    mean.lerp_(now, 1 - keep)
                else:
                    mean.copy_(now)
        return float(coarse.detach()), float(point.detach())

    def save(self, path: Path) -> None:
        """Writes a checkpoint, all of it or nothing."""
        partial_file = path.with_suffix(".part")
        torch.save(
            {
                "model": self.model.state_dict(),
                "average": self.average.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "done": self.done,
            },
            partial_file,
        )
        partial_file.replace(path)

    def resume(self, path: Path) -> None:
        """Goes on from a checkpoint."""
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.done = int(state["done"])


def _start_worker(_: int) -> None:
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


def _pack(samples: Samples, batch: int, number: int) -> tuple[Tensor, Tensor]:
    """Batch ``number``: uint8 (N, S, S, 3) and (N, S, S)."""
    drawn = [samples[number * batch + offset] for offset in range(batch)]
    return (
        torch.from_numpy(np.stack([image for image, _ in drawn])),
        torch.from_numpy(np.stack([labels for _, labels in drawn])),
    )


class _Batches(torch.utils.data.Dataset[tuple[Tensor, Tensor]]):
    def __init__(self, samples: Samples, recipe: Recipe) -> None:
        self.pack = partial(_pack, samples, recipe.batch)
        self.count = recipe.steps

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        return self.pack(number)


def batches(portraits: Sequence[scenes.Scene], recipe: Recipe, start: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches ``start`` to the end of the recipe."""
    loader: torch.utils.data.DataLoader[tuple[Tensor, Tensor]] = torch.utils.data.DataLoader(
        _Batches(Samples(portraits, recipe.seed, recipe.size_at), recipe),
        batch_size=None,
        sampler=range(start, recipe.steps),
        num_workers=recipe.workers,
        prefetch_factor=4 if recipe.workers else None,
        worker_init_fn=_start_worker,
    )
    return iter(loader)


def train(
    config: PointRendConfig, recipe: Recipe, data: Path, out: Path, start_from: Path | None = None
) -> Path:
    """Trains until the recipe's last step and returns the weights' file, ``out/model.safetensors``.

    Writes ``out/checkpoint.pth`` now and then and goes on from it where there is one.

    Parameters
    ----------
    config, recipe
        Model and training.
    data
        Folder of portraits (``images``, ``labels``); those of :mod:`inference.split` are not looked at.
    out
        Folder for checkpoint and weights.
    start_from
        Weights to begin with.

    Raises
    ------
    inference.pointrend.scenes.MissingDataError
        No portraits.
    FloatingPointError
        The training diverged.
    """
    torch.set_num_threads(recipe.threads)
    cv2.setNumThreads(0)
    out.mkdir(parents=True, exist_ok=True)
    everyone = scenes.names(data)
    portraits = scenes.load(data, [name for name in everyone if name not in held_back(everyone)])
    run = Training(config, recipe)
    checkpoint = out / "checkpoint.pth"
    if checkpoint.exists():
        run.resume(checkpoint)
    elif start_from is not None:
        run.start_from(start_from)
    weights = out / "model.safetensors"
    began, coarse_mean, point_mean = time.monotonic(), 0.0, 0.0
    for seen, (images, labels) in enumerate(batches(portraits, recipe, run.done), start=1):
        coarse, point = run.step(images, labels)
        fresh = max(1 / seen, 0.02)
        coarse_mean += fresh * (coarse - coarse_mean)
        point_mean += fresh * (point - point_mean)
        if run.done % 50 == 0 or run.done == recipe.steps:
            pace = seen * recipe.batch / (time.monotonic() - began)
            left = (recipe.steps - run.done) * recipe.batch / pace / 60
            print(
                f"step {run.done}/{recipe.steps}  coarse {coarse_mean:.3f}  points {point_mean:.3f}  "
                f"{pace:.1f} samples/s  {left:.0f} min left",
                flush=True,
            )
        if run.done % recipe.checkpoint_every == 0 or run.done == recipe.steps:
            run.save(checkpoint)
            write_weights(run.average, weights)
    return weights


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line and trains."""
    parser = argparse.ArgumentParser(prog="gateway-models train segment", description=__doc__)
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with images/ and labels/ of portraits"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoint and weights")
    parser.add_argument(
        "--model", type=Path, default=Path("conf/pointrend/nano.yaml"), help="detectron2-style YAML"
    )
    parser.add_argument(
        "--recipe", type=Path, default=Path("conf/training/segment.toml"), help="training recipe"
    )
    parser.add_argument("--start-from", type=Path, default=None, help="weights to begin with")
    for field in fields(Recipe):
        if field.name != "class_weights":
            kind = float if isinstance(field.default, float) else int
            parser.add_argument(f"--{field.name.replace('_', '-')}", type=kind, default=None)
    given = vars(parser.parse_args(argv))
    overrides = {f.name: given[f.name] for f in fields(Recipe) if given.get(f.name) is not None}
    recipe = replace(Recipe.from_toml(given["recipe"]), **overrides)
    path = train(
        PointRendConfig.from_yaml(given["model"]), recipe, given["data"], given["out"], given["start_from"]
    )
    print(f"weights in {path}", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
