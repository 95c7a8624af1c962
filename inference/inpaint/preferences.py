"""``gateway-models train preferences``: teaches an inpainting pipeline which of two paintings is preferred.

Shape letters: N pairs, S the pipeline's side, s that of its latents.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from inference.data import DataError
from inference.data.pairs import Pair, pairs_file, read
from inference.inpaint.autoencoder import to_tensor
from inference.inpaint.finetune import arguments, asked
from inference.inpaint.lessons import teach
from inference.inpaint.losses import Preference, painted_error
from inference.inpaint.tuning import Condition, Tuner, Tuning
from inference.progress import content_of, deciding, finite, listed
from inference.recipe import RecipeError, recipe

STORED = 512
"""Pairs kept in memory."""


@dataclass(frozen=True, slots=True)
class Preferring:
    """What is minimised (:class:`inference.inpaint.losses.Preference`); the table ``[preference]`` of the recipe.

    ``seam`` is the weight of the band about what was painted.
    """

    beta: float = 200.0
    margin: float = 0.5
    anchor: float = 1.0
    memory: float = 0.98
    seam: float = 0.5

    def __post_init__(self) -> None:
        positive = all(one >= 0 for one in (self.margin, self.anchor, self.seam))
        if not (self.beta > 0 and positive and 0 <= self.memory < 1):
            raise RecipeError(
                "beta must be more than 0; margin, anchor and seam 0 or more; memory lie in [0, 1)"
            )


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Encoded pairs: latents (N, 4, s, s) of winners and losers, and what both are conditioned on."""

    winner: Tensor
    loser: Tensor
    given: Condition


class Pairs:
    """An endless, repeatable sequence of pairs as squares of side S, half of them mirrored.

    Raises
    ------
    DataError
        There is no pair.
    """

    def __init__(self, pairs: Sequence[Pair], size_px: int, seed: int) -> None:
        if not pairs:
            raise DataError("there is no pair to learn from")
        self._pairs, self._seed = list(pairs), seed
        self._square = lru_cache(maxsize=STORED)(lambda number: self._pairs[number].square(size_px))

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, str]:
        """Winner and loser uint8 RGB (S, S, 3), hide bool (S, S), and the prompt."""
        epoch, place = divmod(index, len(self._pairs))
        order = np.random.default_rng([self._seed, epoch, 0]).permutation(len(self._pairs))
        winner, loser, hide = self._square(int(order[place]))
        if np.random.default_rng([self._seed, index, 1]).random() < 0.5:
            winner, loser, hide = winner[:, ::-1], loser[:, ::-1], hide[:, ::-1]
        return winner, loser, hide, self._pairs[int(order[place])].prompt


class PreferenceTraining:
    """Loss and figures of a pipeline that learns preferences."""

    def __init__(self, tuner: Tuner, how: Preferring) -> None:
        self.tuner, self.how = tuner, how
        self.preference = Preference(how.beta, how.margin, how.anchor, how.memory)

    @property
    def memory(self) -> Preference:
        """The running scale of the margin."""
        return self.preference

    def shape(self, batch: Batch) -> torch.Size:
        """Of the noise that a batch needs."""
        return batch.winner.shape

    def encode(self, drawn: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray, str]]) -> Batch:
        """Pairs as the UNet gets them; both are conditioned on the winner with the hidden part blanked."""
        winners, losers, hides, prompts = zip(*drawn, strict=True)
        winner, loser = to_tensor(np.stack(winners)), to_tensor(np.stack(losers))
        hide = torch.from_numpy(np.stack(hides)).float()[:, None]
        given = self.tuner.condition(winner, hide, list(prompts))
        return Batch(self.tuner.encode(winner), self.tuner.encode(loser), given)

    def errors(self, batch: Batch, noise: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
        """e_w and e_l (N,) under the same noise (N, 4, s, s) and time steps (N,)."""
        twice = Condition(
            torch.cat([batch.given.mask] * 2),
            torch.cat([batch.given.masked] * 2),
            torch.cat([batch.given.tokens] * 2),
        )
        noises = torch.cat([noise] * 2)
        told, _ = self.tuner.ask(
            torch.cat([batch.winner, batch.loser]), noises, torch.cat([times] * 2), twice
        )
        both = painted_error(told, noises, twice.mask, self.how.seam)
        winner, loser = both.chunk(2)
        return winner, loser

    def loss(self, batch: Batch, noise: Tensor, times: Tensor) -> tuple[Tensor, dict[str, float]]:
        """SimPO's loss of a batch, whose differences then join the running scale; and what is logged of it."""
        winner, loser = self.errors(batch, noise, times)
        loss, figures = self.preference.loss(winner, loser)
        self.preference.follow(loser - winner)
        return loss, {"loss": loss.item(), **figures}

    def judge(self, held_out: Sequence[Batch]) -> dict[str, float]:
        """Figures of the averaged weights on held-out pairs: the same noise and time steps every time.

        Returns
        -------
        dict
            ``preferred``: share of pairs whose winner has the smaller error. ``gap``: mean of e_l − e_w.
            ``winner``, ``loser``: mean errors.
        """
        total = int(self.tuner.schedule.config.num_train_timesteps)
        source = torch.Generator().manual_seed(20_202)
        found = []
        with self.tuner.averaged():
            for batch in held_out:
                for part in range(4):
                    noise = torch.randn(batch.winner.shape, generator=source).to(self.tuner.device)
                    times = torch.full((len(noise),), (2 * part + 1) * total // 8, device=self.tuner.device)
                    found.append(torch.stack(self.errors(batch, noise, times)))
        finite(*found)
        winner, loser = torch.cat(found, 1)
        return {
            "preferred": float((winner < loser).float().mean()),
            "gap": float((loser - winner).mean()),
            "winner": float(winner.mean()),
            "loser": float(loser.mean()),
        }


def train(data: Path, pipeline: Path, out: Path, tuning: Tuning, how: Preferring) -> Path:
    """Teach ``pipeline`` the training pairs and write it; the folder of the new pipeline.

    The same call goes on where an earlier one was ended. Figures are taken of the validation pairs, of the test
    pairs where there are none.

    Raises
    ------
    inference.data.DataError
        The list of pairs or a pair is wrong, a split is empty, or ``out`` holds another training.
    inference.inpaint.tuning.PipelineError
        The pipeline cannot be fine-tuned.
    FloatingPointError
        The training diverged.
    """
    rows = read(data, "train")
    held = [pair for pair in read(data) if pair.split == "validation"] or read(data, "test")
    tuner = Tuner(pipeline, out, tuning)
    learnt = listed([*rows, *held], pairs_file(data).parent)
    decided = deciding("preferences", tuning, how, pairs=learnt, pipeline=content_of(pipeline))
    learning = PreferenceTraining(tuner, how)
    judged, count = Pairs(held, tuner.size_px, 20_202), min(tuning.judged, len(held))
    pairs = Pairs(rows, tuner.size_px, tuning.seed)
    return teach(tuner, decided, learning, pairs, [judged[index] for index in range(count)])


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and train."""
    config = Path("conf/training/preferences.toml")
    given = arguments("preferences", __doc__, config, "pairs.csv, pairs.jsonl or their folder").parse_args(
        argv
    )
    instead = asked(given)
    tuning = recipe(Tuning, given.config, "tuning", **instead)
    folder = train(
        given.data, given.pipeline, given.out, tuning, recipe(Preferring, given.config, "preference")
    )
    print(f"pipeline in {folder}, its adapters in {given.out / 'lora'}")
    return 0
