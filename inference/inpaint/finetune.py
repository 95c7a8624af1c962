"""``gateway-models train inpaint``: teaches an inpainting pipeline a site's photographs, with FFE and DIFF.

Shape letters: N batch, S the pipeline's side, s that of its latents.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from diffusers.training_utils import compute_snr
from torch import Tensor

from inference.data.manifest import NORMAL, manifest_file, present, read
from inference.inpaint.autoencoder import to_tensor
from inference.inpaint.examples import Example, Examples
from inference.inpaint.lessons import teach
from inference.inpaint.losses import (
    Form,
    Prototypes,
    critical_features,
    disease_difference,
    painted_error,
    pooled,
)
from inference.inpaint.tuning import Condition, Tuner, Tuning
from inference.progress import content_of, deciding, finite, listed
from inference.recipe import RecipeError, recipe

REGIONS = ("everywhere", "lesion")
FORMS = ("separate", "literal")


@dataclass(frozen=True, slots=True)
class Losses:
    """What is minimised; the table ``[loss]`` of the recipe.

    Attributes
    ----------
    snr_gamma
        Weight of a time step: min(SNR, γ) / SNR (min-SNR, Hang 2023).
    seen_weight
        Weight of the denoising error outside of what is painted, inside 1.
    ffe, ffe_share, ffe_region
        λ of FFE (0: without), its threshold, and where it looks: ``everywhere`` or ``lesion``.
    diff, diff_form, diff_margin, memory
        Weight of DIFF (0: without), ``separate`` or ``literal``, its margin, and how slowly prototypes move.
    prompt
        What is told of every picture; the disease follows.
    """

    snr_gamma: float = 5.0
    seen_weight: float = 0.1
    ffe: float = 0.5
    ffe_share: float = 0.5
    ffe_region: str = "lesion"
    diff: float = 0.1
    diff_form: str = "separate"
    diff_margin: float = 0.0
    memory: float = 0.9
    prompt: str = "clinical photograph of a face"

    def __post_init__(self) -> None:
        if self.ffe_region not in REGIONS or self.diff_form not in FORMS:
            raise RecipeError(
                f"ffe_region must be {' or '.join(REGIONS)} and diff_form {' or '.join(FORMS)}, not "
                f"{self.ffe_region!r} and {self.diff_form!r}"
            )
        if not (all(one >= 0 for one in (self.ffe, self.diff, self.seen_weight)) and self.snr_gamma > 0):
            raise RecipeError("ffe, diff and seen_weight must be 0 or more, snr_gamma more than 0")
        if not (0 <= self.ffe_share <= 1 and 0 <= self.memory < 1 and -1 <= self.diff_margin <= 1):
            raise RecipeError("ffe_share lies in [0, 1], memory in [0, 1) and diff_margin in [-1, 1]")


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Encoded examples: clean latents (N, 4, s, s), the condition, lesions (N, 1, S, S), diseases int (N,), −1 none."""

    clean: Tensor
    given: Condition
    lesion: Tensor
    diseases: Tensor


class SiteTraining:
    """Losses and figures of a pipeline that learns a site's photographs.

    Parameters
    ----------
    tuner
        The pipeline.
    losses
        What is minimised.
    diseases
        Names, in the order in which prototypes count them.
    """

    def __init__(self, tuner: Tuner, losses: Losses, diseases: Sequence[str]) -> None:
        self.tuner, self.losses, self.diseases = tuner, losses, list(diseases)
        self.prototypes = Prototypes(losses.memory)

    @property
    def memory(self) -> Prototypes:
        """The diseases' prototypes."""
        return self.prototypes

    def shape(self, batch: Batch) -> torch.Size:
        """Of the noise that a batch needs."""
        return batch.clean.shape

    def encode(self, examples: Sequence[Example]) -> Batch:
        """Examples as the UNet gets them."""
        pictures = to_tensor(np.stack([one.image for one in examples]))
        hide = torch.from_numpy(np.stack([one.hide for one in examples])).float()[:, None]
        lesion = torch.from_numpy(np.stack([one.lesion for one in examples])).float()[:, None]
        which = [self.diseases.index(one.disease) if one.disease in self.diseases else -1 for one in examples]
        tuner = self.tuner
        given = tuner.condition(pictures, hide, [one.prompt for one in examples])
        return Batch(
            tuner.encode(pictures), given, lesion.to(tuner.device), torch.tensor(which, device=tuner.device)
        )

    def loss(self, batch: Batch, noise: Tensor, times: Tensor) -> tuple[Tensor, dict[str, float]]:
        """Denoising error with FFE and DIFF at their weights, and each of them for people."""
        losses = self.losses
        told, middle = self.tuner.ask(batch.clean, noise, times, batch.given)
        snr = compute_snr(self.tuner.schedule, times)
        weight = (snr.clamp(max=losses.snr_gamma) / snr)[:, None, None, None]
        weight = weight * (losses.seen_weight + (1 - losses.seen_weight) * batch.given.mask)
        denoising = ((told - noise).square() * weight).mean()
        fine = self._fine(told, noise, batch.lesion)
        apart = self._apart(middle, batch)
        total = denoising + losses.ffe * fine + losses.diff * apart
        return total, {"denoising": denoising.item(), "ffe": fine.item(), "diff": apart.item()}

    def _fine(self, told: Tensor, noise: Tensor, lesion: Tensor) -> Tensor:
        region = None
        if self.losses.ffe_region == "lesion":
            region = F.adaptive_max_pool2d(lesion, told.shape[-2:])
        return critical_features(told, noise, self.losses.ffe_share, region)[0]

    def _apart(self, middle: Tensor, batch: Batch) -> Tensor:
        features, present = pooled(middle, batch.lesion)
        shown = present & (batch.diseases >= 0)
        features, diseases = features[shown], batch.diseases[shown]
        self.prototypes.follow(features, diseases)
        form: Form = "literal" if self.losses.diff_form == "literal" else "separate"
        return disease_difference(features, diseases, self.prototypes, form, self.losses.diff_margin)

    def judge(self, held_out: Sequence[Batch]) -> dict[str, float]:
        """Figures of the averaged weights on held-out pictures: the same noise and time steps every time.

        Returns
        -------
        dict
            ``error``: mean ‖ε − ε_θ‖² where it is painted. ``ffe``: FFE. ``likeness``: the largest cosine between
            two diseases' prototypes about their mean.
        """
        total = int(self.tuner.schedule.config.num_train_timesteps)
        source = torch.Generator().manual_seed(20_201)
        errors, fine, seen = [], [], Prototypes(memory=0.0)
        pooled_features: list[tuple[Tensor, Tensor]] = []
        with self.tuner.averaged():
            for batch in held_out:
                count = len(batch.clean)
                noise = torch.randn(batch.clean.shape, generator=source).to(self.tuner.device)
                times = (torch.arange(count) * 2 + 1) * total // (2 * count)
                told, middle = self.tuner.ask(batch.clean, noise, times.to(self.tuner.device), batch.given)
                errors.append(painted_error(told, noise, batch.given.mask, seam=0.0))
                fine.append(self._fine(told, noise, batch.lesion))
                features, present = pooled(middle, batch.lesion)
                shown = present & (batch.diseases >= 0)
                pooled_features.append((features[shown], batch.diseases[shown]))
        finite(*errors)
        seen.follow(torch.cat([f for f, _ in pooled_features]), torch.cat([d for _, d in pooled_features]))
        return {
            "error": float(torch.cat(errors).mean()),
            "ffe": float(torch.stack(fine).mean()),
            "likeness": seen.largest_cosine(),
        }


def train(data: Path, pipeline: Path, out: Path, tuning: Tuning, losses: Losses) -> Path:
    """Fine-tune ``pipeline`` on the manifest's training split and write it; the folder of the new pipeline.

    The same call goes on where an earlier one was ended. Figures are taken of the validation split, of the test
    split where there is none.

    Raises
    ------
    inference.data.DataError
        The manifest or a file it names is wrong, a split is empty, or ``out`` holds another training.
    inference.inpaint.tuning.PipelineError
        The pipeline cannot be fine-tuned.
    FloatingPointError
        The training diverged.
    """
    rows = read(data, "train")
    diseases = sorted({row.disease for row in rows} - {NORMAL})
    held = [row for row in read(data) if row.split == "validation"] or read(data, "test")
    present([*rows, *held])
    tuner = Tuner(pipeline, out, tuning)
    learnt = listed([*rows, *held], manifest_file(data).parent)
    decided = deciding("inpaint", tuning, losses, photographs=learnt, pipeline=content_of(pipeline))
    site = SiteTraining(tuner, losses, diseases)
    judged = Examples(held, tuner.size_px, 20_201, losses.prompt)
    examples = Examples(rows, tuner.size_px, tuning.seed, losses.prompt)
    return teach(tuner, decided, site, examples, [judged[index] for index in range(tuning.judged)])


def arguments(name: str, doc: str | None, config: Path, data: str) -> argparse.ArgumentParser:
    """The options that every fine-tuning of the inpainter has."""
    parser = argparse.ArgumentParser(prog=f"gateway-models train {name}", description=doc)
    parser.add_argument("--data", type=Path, required=True, help=data)
    parser.add_argument("--out", type=Path, required=True, help="folder for the state, lora/ and pipeline/")
    parser.add_argument("--pipeline", type=Path, default=Path("bundles/nano/inpainter"),
                        help="diffusers pipeline to begin with (default: the nano bundle's)")  # fmt: skip
    parser.add_argument("--config", type=Path, default=config, help=f"recipe (default {config})")
    parser.add_argument("--threads", type=int, default=0, help="threads of torch (0: as many as cores)")
    for key, kind in (("steps", int), ("batch", int), ("rank", int), ("learning-rate", float), ("judged", int),
                      ("judge-every", int), ("workers", int), ("seed", int)):  # fmt: skip
        parser.add_argument(f"--{key}", type=kind, help="instead of the recipe's")
    return parser


def asked(given: argparse.Namespace) -> dict[str, Any]:
    """The options that go before the recipe's keys."""
    if given.threads:
        torch.set_num_threads(given.threads)
    return vars(given)


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and fine-tune."""
    parser = arguments("inpaint", __doc__, Path("conf/training/inpaint.toml"), "manifest.csv or its folder")
    parser.add_argument("--ffe", type=float, help="weight of FFE, instead of the recipe's; 0 leaves it out")
    parser.add_argument("--diff", type=float, help="weight of DIFF, instead of the recipe's; 0 leaves it out")
    given = parser.parse_args(argv)
    instead = asked(given)
    tuning = recipe(Tuning, given.config, "tuning", **instead)
    folder = train(
        given.data, given.pipeline, given.out, tuning, recipe(Losses, given.config, "loss", **instead)
    )
    print(f"pipeline in {folder}, its adapters in {given.out / 'lora'}")
    return 0
