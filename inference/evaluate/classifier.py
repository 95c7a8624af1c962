"""The judge of diseases: MONAI's DenseNet-121, trained on the original photographs of a manifest.

Shape letters: N pictures, K diseases, S side of a view.
"""

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from monai.networks.nets.densenet import DenseNet121
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from inference.bundle import digest
from inference.contract import Floats, Image
from inference.data import DataError
from inference.data.manifest import Photograph, present, read
from inference.evaluate.scene import open_scene
from inference.evaluate.statistics import one_vs_rest
from inference.progress import Meter, deciding, finite, learning_rate, listed, load_state, save_state
from inference.recipe import RecipeError

WEIGHTS, CARD, STATE = "classifier.safetensors", "classifier.json", "state.pt"
UNREADABLE = (ValueError, LookupError, TypeError, RuntimeError, SafetensorError, FloatingPointError)
"""What a damaged card or damaged weights raise."""
SAVE_EVERY = 100
STRIDE_PX = 32
"""Pixels of a view that DenseNet-121 makes one of."""
BATCH = 32
"""Views that a judge looks at together."""


@dataclass(frozen=True, slots=True)
class ClassifierTraining:
    """How to train the judge of diseases.

    Attributes
    ----------
    steps, batch, learning_rate
        Optimiser steps (AdamW), views a step, and the rate after warming up.
    size_px
        S; DenseNet-121 takes any multiple of 32.
    seed
        Decides first weights, order and augmentation.
    mixed_precision
        bfloat16 where it is safe; faster on processors that have it.

    Raises
    ------
    RecipeError
        A number is none that can be trained with.
    """

    steps: int = 900
    batch: int = 16
    learning_rate: float = 1e-3
    size_px: int = 128
    seed: int = 1
    mixed_precision: bool = False

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch < 2 or self.seed < 0:
            raise RecipeError("steps must be 1 or more, batch 2 or more, seed 0 or more")
        if self.size_px < STRIDE_PX or self.size_px % STRIDE_PX:
            raise RecipeError(f"size_px must be a multiple of {STRIDE_PX}, not {self.size_px}")
        if not self.learning_rate > 0:
            raise RecipeError("learning_rate must be more than 0")


class Classifier:
    """A trained judge of diseases.

    Parameters
    ----------
    folder
        As :func:`train_classifier` wrote it.

    Raises
    ------
    DataError
        The folder holds no judge, or a damaged one.
    """

    def __init__(self, folder: Path) -> None:
        try:
            self.card = json.loads((folder / CARD).read_text(encoding="utf-8"))
            self.diseases: tuple[str, ...] = tuple(self.card["diseases"])
            self.size_px = int(self.card["size_px"])
            self._net = _network(len(self.diseases))
            self._net.load_state_dict(load_file(folder / WEIGHTS))
            finite(*self._net.state_dict().values())
        except FileNotFoundError as error:
            raise DataError(
                f"No judge of diseases at {folder}: make one with gateway-models train classifier --out {folder}."
            ) from error
        except UNREADABLE as error:
            raise DataError(
                f"The judge of diseases at {folder} is damaged: remove it, and train it anew."
            ) from error
        self._net.eval()

    def predict(self, views: Image) -> Floats:
        """Probabilities float32 (N, K), in the order of ``diseases``, of views uint8 RGB (N, S, S, 3)."""
        return _answers(self._net, views)


def _network(classes: int) -> nn.Module:
    net: nn.Module = DenseNet121(spatial_dims=2, in_channels=3, out_channels=classes)
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


@torch.inference_mode()
def _answers(net: nn.Module, views: Image) -> Floats:
    """Probabilities float32 (N, K) of views uint8 RGB (N, S, S, 3)."""
    parts = [views[start : start + BATCH] for start in range(0, len(views), BATCH)]
    return np.concatenate([np.asarray(net(_tensor(part)).softmax(1).numpy(), np.float32) for part in parts])


def _tensor(views: NDArray[np.uint8]) -> Tensor:
    # pixels last in memory already: permuting gives the layout in which convolutions are fastest
    return torch.from_numpy(np.ascontiguousarray(views)).permute(0, 3, 1, 2).float() / 127.5 - 1


def views(photographs: Sequence[Photograph], size_px: int) -> Image:
    """Every photograph's view, uint8 RGB (N, S, S, 3)."""
    taken = np.empty((len(photographs), size_px, size_px, 3), np.uint8)
    for index, photograph in enumerate(photographs):
        scene = open_scene(photograph)
        taken[index] = scene.view(size_px).take(scene.image)
    return taken


def _disturbed(view: Image, draw: np.random.Generator) -> Image:
    """The view mirrored by chance, a little moved, turned, nearer or farther, lighter or darker."""
    size = view.shape[0]
    turn = cv2.getRotationMatrix2D((size / 2, size / 2), draw.uniform(-12, 12), draw.uniform(0.9, 1.15))
    turn[:, 2] += draw.uniform(-0.05, 0.05, 2) * size
    moved = cv2.warpAffine(view, turn, (size, size), borderMode=cv2.BORDER_REPLICATE)
    if draw.random() < 0.5:
        moved = moved[:, ::-1]
    gain = np.exp(draw.normal(0, 0.08)) * np.exp(draw.normal(0, 0.03, 3))
    return np.asarray(np.clip(moved * gain, 0, 255), np.uint8)


def train_classifier(
    photographs: Sequence[Photograph], validation: Sequence[Photograph], out: Path, config: ClassifierTraining
) -> Path:
    """Train (or go on training) a judge of diseases and write it to ``out``.

    Parameters
    ----------
    photographs
        What to learn from; at least two diseases.
    validation
        Other patients; the card says how well the judge does on them. May be empty.
    out
        Folder for weights, card and the state to go on from.
    config
        The recipe; a training goes on with the same, but for the steps.

    Raises
    ------
    DataError
        Less than two diseases, a photograph cannot be read, or ``out`` holds another training.
    FloatingPointError
        The training diverged; nothing is written then.
    """
    diseases = tuple(sorted({one.disease for one in photographs}))
    if len(diseases) < 2:
        raise DataError(
            "A judge of diseases needs photographs of at least two diseases (or one and normal) in the split train."
        )
    present([*photographs, *validation])
    learnt = listed(((digest(one.image), digest(one.mask), one.disease) for one in photographs), out)
    decided = deciding("classifier", config, diseases=", ".join(diseases), photographs=learnt)
    state = load_state(out / STATE, decided)
    first = 0 if state is None else int(state["step"])
    if first > config.steps:
        raise DataError(
            f"{out} holds a judge of {first} steps, more than {config.steps}; name another --out."
        )
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(config.seed)
    net = _network(len(diseases))
    optimiser = torch.optim.AdamW(net.parameters(), lr=config.learning_rate, weight_decay=1e-4)
    taken = views(photographs, config.size_px)
    named = np.array([diseases.index(one.disease) for one in photographs])
    known = [one for one in validation if one.disease in diseases]
    held = views(known, config.size_px)
    if state is not None:
        net.load_state_dict(state["net"])
        optimiser.load_state_dict(state["optimiser"])
    meter = Meter("classifier", first, config.steps)
    net.train()
    for step in meter.steps():
        draw = np.random.default_rng([config.seed, step])
        chosen = draw.integers(len(taken), size=config.batch)
        batch = np.stack([_disturbed(taken[index], draw) for index in chosen])
        target = torch.from_numpy(named[chosen])
        with torch.autocast("cpu", torch.bfloat16, enabled=config.mixed_precision):
            logits = net(_tensor(batch))
        loss = nn.functional.cross_entropy(logits.float(), target, label_smoothing=0.05)
        finite(loss)
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(
                step, config.steps, config.learning_rate, min(200, config.steps // 5 + 1)
            )
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        meter.note(loss=loss.item())
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == config.steps:
            finite(*net.state_dict().values())
            kept = {"net": net.state_dict(), "optimiser": optimiser.state_dict(), "step": step + 1}
            save_state(out / STATE, {**kept, "decided": decided})
    net.eval()
    card = {"diseases": diseases, "photographs": len(photographs), **asdict(config)}
    if known:
        area = one_vs_rest(_answers(net, held), [diseases.index(one.disease) for one in known])[1]
        # Of one disease alone there is no area.
        card |= {"validation_auc": area, "validation_photographs": len(known)} if math.isfinite(area) else {}
    _write(out, net, card)
    return out


def _write(out: Path, net: nn.Module, card: dict[str, Any]) -> None:
    """Replace weights and card, each whole or not at all."""
    fresh = out / "classifier.new"
    try:
        save_file({name: value.contiguous() for name, value in net.state_dict().items()}, fresh)
    except SafetensorError as error:
        raise OSError(f"{out / WEIGHTS} cannot be written; is the disk full?") from error
    fresh.replace(out / WEIGHTS)
    fresh.write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    fresh.replace(out / CARD)


def main(argv: Sequence[str] | None = None) -> int:
    """Train the judge of diseases from the command line."""
    parser = argparse.ArgumentParser(prog="gateway-models train classifier", description=__doc__)
    parser.add_argument(
        "--data", type=Path, required=True, help="manifest.csv or its folder; learns from split train"
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for the judge; goes on where it was ended"
    )
    for name, text in (
        ("steps", "optimiser steps"),
        ("batch", "views a step"),
        ("size_px", "side of a view"),
    ):
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=getattr(ClassifierTraining(), name),
                            help=f"{text} (default %(default)s)")  # fmt: skip
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--mixed-precision", action="store_true", help="bfloat16 where it is safe")
    parser.add_argument("--threads", type=int, default=0, help="threads of torch (0: as many as cores)")
    given = parser.parse_args(argv)
    if given.threads > 0:
        torch.set_num_threads(given.threads)
    photographs = read(given.data)
    by_split = {name: [one for one in photographs if one.split == name] for name in ("train", "validation")}
    config = ClassifierTraining(
        steps=given.steps, batch=given.batch, size_px=given.size_px, seed=given.seed,
        mixed_precision=given.mixed_precision,
    )  # fmt: skip
    train_classifier(by_split["train"], by_split["validation"], given.out, config)
    card = json.loads((given.out / CARD).read_text(encoding="utf-8"))
    if "validation_auc" in card:
        print(
            f"{given.out}: AUC {card['validation_auc']:.3f} on {card['validation_photographs']} of other patients"
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
