"""``gateway-models train segment``: trains the segmenter, on portraits or on a site's photographs.

The same command goes on where an earlier run was ended.
"""

import argparse
import math
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from inference.contract import CLASSES
from inference.data import DataError
from inference.data.manifest import manifest_file, present, read
from inference.pointrend import scenes
from inference.pointrend.config import ConfigError, PointRendConfig, write_config
from inference.pointrend.data import Mix, Samples
from inference.pointrend.losses import pointrend_losses
from inference.pointrend.model import PointRend, channels_last
from inference.pointrend.site import SiteScenes, judge
from inference.pointrend.weights import WeightsError, adopt_weights, write_weights
from inference.progress import (
    Meter,
    content_of,
    deciding,
    finite,
    listed,
    load_state,
    read_ahead,
    save_state,
    write_figures,
    writing,
)
from inference.recipe import RecipeError, recipe
from inference.split import held_back

STATE, WEIGHTS = "checkpoint.pth", "model.safetensors"


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
    precision: str = "auto"
    negatives: float = 0.12

    def __post_init__(self) -> None:
        counts = (self.batch, self.steps, self.checkpoint_every, self.threads)
        if min(counts) < 1 or min(self.seed, self.workers) < 0:
            raise RecipeError(
                "batch, steps, checkpoint_every and threads must be 1 or more, seed and workers 0 or more"
            )
        if any(side < 32 or side % 32 for side in (self.small_px, self.size_px)):
            raise RecipeError(
                f"small_px and size_px must be multiples of 32, not {self.small_px} and {self.size_px}"
            )
        if self.batch == 1 and min(self.small_px, self.size_px) == 32:
            raise RecipeError("batch must be 2 or more where small_px or size_px is 32")
        positive = all(weight > 0 for weight in (self.peak_rate, *self.class_weights))
        if not (positive and self.weight_decay >= 0 and 0 <= self.ema < 1):
            raise RecipeError(
                "peak_rate and class_weights must be more than 0, weight_decay 0 or more; ema lie in [0, 1)"
            )
        if not (0 <= self.small_share <= 1 and 0 <= self.negatives <= 1):
            raise RecipeError("small_share and negatives lie in [0, 1]")

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
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.half = half(recipe.precision, self.device)
        self.model = channels_last(PointRend(config)).to(self.device).train()
        self.average = deepcopy(self.model).eval().requires_grad_(requires_grad=False)
        plain = [p for p in self.model.parameters() if p.ndim < 2]
        decayed = [p for p in self.model.parameters() if p.ndim >= 2]
        groups = [
            {"params": decayed, "weight_decay": recipe.weight_decay},
            {"params": plain, "weight_decay": 0.0},
        ]
        self.optimiser = torch.optim.AdamW(groups, lr=recipe.peak_rate, fused=True)
        self.class_weights = torch.tensor(recipe.class_weights, device=self.device)
        self.done = 0
        self.figures: list[dict[str, float]] = []

    def start_from(self, path: Path) -> tuple[str, ...]:
        """Begins with other weights instead of random ones; names of the layers that tell other classes apart."""
        left = adopt_weights(self.model, path)
        self.average.load_state_dict(self.model.state_dict())
        return left

    def step(self, images: Tensor, labels: Tensor) -> tuple[float, float]:
        """One update from uint8 RGB (N, S, S, 3) and labels (N, S, S); returns coarse and point loss.

        Raises
        ------
        FloatingPointError
            The loss is not a number.
        """
        # Points of step n are the same whether or not the run was interrupted before.
        source = torch.Generator().manual_seed(self.recipe.seed * 1_000_003 + self.done)
        pixels = images.to(self.device).permute(0, 3, 1, 2).float()
        ordered = pixels if self.model.config.rgb else pixels.flip(1)
        given = ordered.contiguous(memory_format=torch.channels_last)
        for group in self.optimiser.param_groups:
            group["lr"] = self.recipe.rate_at(self.done)
        named = labels.to(self.device).long()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half):
            coarse, point = pointrend_losses(self.model, given, named, self.class_weights, source)
        loss = coarse + point
        finite(loss)
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

    def save(self, out: Path, decided: Mapping[str, Any]) -> None:
        """Writes the averaged weights to ``out``, then a checkpoint, all of it or nothing.

        Raises
        ------
        FloatingPointError
            A weight is no number; what was written before stays.
        OSError
            They cannot be written.
        """
        finite(*self.model.state_dict().values(), *self.average.state_dict().values())
        with writing(out / WEIGHTS):
            write_weights(self.average, out / WEIGHTS)
        parts = {name: getattr(self, name).state_dict() for name in ("model", "average", "optimiser")}
        save_state(out / STATE, parts | {"done": self.done, "figures": self.figures, "decided": decided})

    def resume(self, out: Path, decided: Mapping[str, Any]) -> None:
        """Goes on from the checkpoint in ``out``, where there is one.

        Raises
        ------
        inference.data.DataError
            It is damaged, or another training's.
        """
        state = load_state(out / STATE, decided)
        if state is None:
            return
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.done = int(state["done"])
        self.figures = state.get("figures", [])

    def judge(self, held_out: Sequence[scenes.Scene], out: Path) -> None:
        """Takes the averaged weights' IoU on held-out photographs into ``out/figures.json``."""
        found = judge(self.average, held_out, self.recipe.size_px)
        self.figures.append({"step": self.done, **found})
        write_figures(out / "figures.json", self.figures)
        shown = "  ".join(f"{name} {value:.3f}" for name, value in found.items())
        print(f"judged after {self.done} steps: {shown}", flush=True)


def _pack(samples: Samples, batch: int, number: int) -> tuple[Tensor, Tensor]:
    """Batch ``number``: uint8 (N, S, S, 3) and (N, S, S)."""
    drawn = [samples[number * batch + offset] for offset in range(batch)]
    return (
        torch.from_numpy(np.stack([image for image, _ in drawn])),
        torch.from_numpy(np.stack([labels for _, labels in drawn])),
    )


def half(precision: str, device: torch.device) -> bool:
    """Whether to compute in bfloat16: ``auto`` where the device has it, ``bf16``, or ``no``.

    Raises
    ------
    RecipeError
        None of these.
    """
    if precision not in {"auto", "bf16", "no"}:
        raise RecipeError(f"precision must be auto, bf16 or no, not {precision!r}")
    return precision == "bf16" or (
        precision == "auto" and device.type == "cuda" and torch.cuda.is_bf16_supported()
    )


def batches(
    portraits: Sequence[scenes.Scene], recipe: Recipe, start: int, mix: Mix | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches ``start`` to the end of the recipe."""
    samples = Samples(portraits, recipe.seed, recipe.size_at, mix)
    return read_ahead(partial(_pack, samples, recipe.batch), range(start, recipe.steps), recipe.workers)


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
        A site's manifest or its folder: learnt from the training split as it is, judged by the validation split (by
        the test split where there is none). Or a folder of portraits (``images``, ``labels``), on which lesions are
        painted; those of :mod:`inference.split` are not looked at.
    out
        Folder for checkpoint, weights and ``figures.json``.
    start_from
        Weights to begin with, also detectron2's; heads that tell other classes apart begin at random.

    Raises
    ------
    inference.pointrend.scenes.MissingDataError, inference.data.DataError
        No portraits; a manifest, or a file it names, that is wrong; another training in ``out``.
    inference.pointrend.weights.WeightsError
        Weights of another architecture.
    FloatingPointError
        The training diverged.
    """
    torch.set_num_threads(recipe.threads)
    cv2.setNumThreads(0)
    learnt, held_out, mix, photographs = _scenes(data, recipe)
    begun = None if start_from is None else content_of(start_from)
    decided = deciding("segment", recipe, config, photographs=photographs, start_from=begun)
    out.mkdir(parents=True, exist_ok=True)
    run = Training(config, recipe)
    run.resume(out, decided)
    if run.done == 0 and start_from is not None:
        left = run.start_from(start_from)
        if left:
            print(f"begin at random, other classes: {', '.join(left)}", flush=True)
    if held_out and run.done == 0:
        run.judge(held_out, out)
    meter = Meter("segment", run.done, recipe.steps)
    drawn = batches(learnt, recipe, run.done, mix)
    for _ in meter.steps():
        coarse, point = run.step(*next(drawn))
        meter.note(coarse=coarse, points=point)
        if run.done % recipe.checkpoint_every == 0 or run.done == recipe.steps:
            if held_out:
                run.judge(held_out, out)
            run.save(out, decided)
    return out / WEIGHTS


def _scenes(data: Path, recipe: Recipe) -> tuple[Sequence[scenes.Scene], Sequence[scenes.Scene], Mix, str]:
    """What is learnt from, what is judged by, how samples are drawn, and the digest of the list of photographs."""
    if manifest_file(data).is_file():
        rows = read(data, "train")
        held = [row for row in read(data) if row.split == "validation"] or read(data, "test")
        present([*rows, *held])
        known = listed([*rows, *held], manifest_file(data).parent)
        # A site's lesions are photographed: none are painted.
        return SiteScenes(rows), SiteScenes(held), Mix(healthy=1.0, negatives=recipe.negatives), known
    everyone = scenes.names(data)
    learnt = [name for name in everyone if name not in held_back(everyone)]
    portraits = scenes.load(data, learnt)
    known = listed(((data / f"images/{name}.jpg", data / f"labels/{name}.png") for name in learnt), data)
    return portraits, (), Mix(negatives=recipe.negatives), known


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line and trains.

    Raises
    ------
    inference.data.DataError
        Data, recipe, configuration or weights cannot be learnt from.
    """
    parser = argparse.ArgumentParser(prog="gateway-models train segment", description=__doc__)
    parser.add_argument(
        "--data", type=Path, required=True, help="manifest.csv, or a folder with it or with portraits"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoint and weights")
    parser.add_argument(
        "--model", type=Path, default=Path("conf/pointrend/nano.yaml"), help="detectron2-style YAML"
    )
    parser.add_argument(
        "--recipe", type=Path, default=Path("conf/training/segment.toml"), help="training recipe"
    )
    parser.add_argument(
        "--start-from", type=Path, default=None, help="weights to begin with, also detectron2's"
    )
    for field in fields(Recipe):
        if field.name != "class_weights":
            kind = type(field.default)
            parser.add_argument(f"--{field.name.replace('_', '-')}", type=kind, default=None)
    given = vars(parser.parse_args(argv))
    try:
        chosen = recipe(Recipe, given["recipe"], "", **{f.name: given.get(f.name) for f in fields(Recipe)})
        config = replace(PointRendConfig.from_yaml(given["model"]), classes=len(CLASSES))
        path = train(config, chosen, given["data"], given["out"], given["start_from"])
        write_config(given["model"], path.parent / "config.yaml", len(CLASSES))
    except (ConfigError, WeightsError, scenes.MissingDataError) as error:
        raise DataError(f"{error}.") from error
    print(f"weights in {path}", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
