"""Two attackers who know the method and have pairs of anonymised and original photographs of other people.

*Inversion*: a network learns to paint the original from the anonymised face; a recogniser then looks at what it
painted. *Retrained*: the recogniser's last layer is learnt anew, from what it sees of anonymised faces to what it saw
of the originals. Both are judged as the method itself is: by rank in a gallery of originals and distractors.
Shape letters: N faces, S side of a crop, D length of an embedding, F features.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from numpy.typing import NDArray
from torch import Tensor, nn

from inference.contract import Floats, Image
from inference.data.manifest import Photograph
from inference.evaluate.identity import Gallery, Identity, Judge
from inference.evaluate.loop import Results
from inference.evaluate.methods import Method
from inference.evaluate.metrics import Measured
from inference.evaluate.scene import open_scene
from inference.faces import align

MARGIN_PX = 8
SIDE_PX = align.SIDE_PX + 2 * MARGIN_PX
FOLD = 4
"""The inversion network works on blocks of this side, as channels: cheap enough for a CPU."""
GRID_PX = 16
"""Side of the coarse picture that the retrained recogniser also sees."""
RIDGES = tuple(10.0**power for power in range(-1, 6))


@dataclass(frozen=True, slots=True)
class Attack:
    """How hard the attackers try.

    Attributes
    ----------
    steps, batch, learning_rate
        Of the inversion network (AdamW).
    width
        Channels of its first layer.
    seed
        Decides first weights and order.
    """

    steps: int = 600
    batch: int = 8
    learning_rate: float = 1e-3
    width: int = 32
    seed: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Faces before and after, upright by the originals' landmarks.

    Attributes
    ----------
    names
        Of the photographs, N.
    before, after
        uint8 RGB (N, S, S, 3).
    """

    names: tuple[str, ...]
    before: Image
    after: Image


def pairs(photographs: Sequence[Photograph], method: Method, results: Results, judge: Judge) -> Pairs:
    """Crops of every photograph in which the judge found a face, before and after the method, where it gives one out.

    They are aligned by that judge's landmarks of the original; other judges may look at them too.
    """
    names, before, after = [], [], []
    for photograph in photographs:
        scene = open_scene(photograph)
        landmarks = judge.gallery.landmarks.get(scene.name)
        if landmarks is not None:
            result = results.of(method, scene).image
            if result is None:
                continue
            names.append(scene.name)
            before.append(align.crop(scene.image, landmarks, margin_px=MARGIN_PX))
            after.append(align.crop(result, landmarks, margin_px=MARGIN_PX))
    shape = (0, SIDE_PX, SIDE_PX, 3)
    return Pairs(
        tuple(names),
        np.stack(before) if before else np.zeros(shape, np.uint8),
        np.stack(after) if after else np.zeros(shape, np.uint8),
    )


class Inverter(nn.Module):
    """A small U-Net from anonymised to original faces, float32 (N, 3, S, S) in [−1, 1]; it paints a difference."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        sizes = [width, 2 * width, 4 * width, 6 * width]
        self.first = nn.Conv2d(3 * FOLD**2, sizes[0], 3, padding=1)
        self.down = nn.ModuleList(_block(a, b, 2) for a, b in pairwise(sizes))
        self.middle = _block(sizes[-1], sizes[-1], 1)
        self.up = nn.ModuleList(_block(b + a, a, 1) for a, b in zip(sizes[-2::-1], sizes[:0:-1], strict=True))
        self.last = nn.Conv2d(sizes[0], 3 * FOLD**2, 3, padding=1)

    def forward(self, faces: Tensor) -> Tensor:
        """What the originals may have been, (N, 3, S, S)."""
        x = self.first(F.pixel_unshuffle(faces, FOLD))
        kept = [x]
        for layer in self.down:
            x = layer(x)
            kept.append(x)
        x = x + self.middle(x)
        for layer, seen in zip(self.up, kept[-2::-1], strict=True):
            x = layer(torch.cat([F.interpolate(x, scale_factor=2.0, mode="bilinear"), seen], 1))
        return faces + F.pixel_shuffle(self.last(x), FOLD)


def _block(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1), nn.GroupNorm(4, outputs), nn.SiLU(inplace=True)
    )


def _tensor(faces: Image) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(faces)).permute(0, 3, 1, 2).float() / 127.5 - 1


def invert(known: Pairs, attacked: Image, config: Attack) -> Image:
    """Train on ``known`` and give back what the network makes of ``attacked``, uint8 RGB (N, S, S, 3).

    The loss is the mean absolute difference over three octaves.
    """
    torch.manual_seed(config.seed)
    net = Inverter(config.width).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(net.parameters(), lr=config.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, config.learning_rate, max(config.steps, 2))
    for step in range(config.steps):
        draw = np.random.default_rng([config.seed, step])
        chosen = draw.integers(len(known.names), size=config.batch)
        side = slice(None, None, -1 if draw.random() < 0.5 else 1)
        after, before = _tensor(known.after[chosen][:, :, side]), _tensor(known.before[chosen][:, :, side])
        made = net(after)
        loss = torch.zeros(())
        for _ in range(3):
            loss = loss + (made - before).abs().mean()
            made, before = F.avg_pool2d(made, 2), F.avg_pool2d(before, 2)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
    net.eval()
    painted = []
    with torch.inference_mode():
        for batch in torch.split(_tensor(attacked), 16):
            made = ((net(batch).clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
            painted.append(np.asarray(made.permute(0, 2, 3, 1).numpy()))
    return np.concatenate(painted)


def _embedded(judge: Judge, face: Image) -> Floats | None:
    try:
        return judge.pack.embed(face, align.TEMPLATE + np.float32(MARGIN_PX))
    except ValueError:
        return None


def _features(judge: Judge, faces: Image) -> NDArray[np.float64]:
    """What the recogniser and a coarse look see of upright faces, float64 (N, F); the last column is 1."""
    coarse = torch.nn.functional.adaptive_avg_pool2d(_tensor(faces), GRID_PX).reshape(len(faces), -1).numpy()
    length = judge.gallery.embeddings.shape[1]
    seen = [_embedded(judge, face) for face in faces]
    embedded = np.stack([np.zeros(length, np.float32) if one is None else one for one in seen])
    # Both parts weigh alike: each is brought to about unit length.
    parts = [embedded, coarse / np.sqrt(coarse.shape[1]), np.ones((len(faces), 1), np.float32)]
    return np.concatenate(parts, axis=1).astype(np.float64)


def retrain(features: NDArray[np.float64], wanted: NDArray[np.float64]) -> NDArray[np.float64]:
    """The linear layer (F, D) from features (N, F) to embeddings (N, D): ridge regression.

    The ridge is the one of :data:`RIDGES` with the largest mean cosine when each face is left out in turn (closed
    form of the leave-one-out residual, Allen 1974).
    """
    gram = features @ features.T
    values, vectors = np.linalg.eigh(gram)
    turned = vectors.T @ wanted
    best, weights = -np.inf, np.zeros((features.shape[1], wanted.shape[1]))
    for ridge in (scale * float(np.trace(gram)) / len(gram) * 1e-4 for scale in RIDGES):
        inverse = vectors @ (turned / (values + ridge)[:, None])
        diagonal = np.square(vectors) @ (1 / (values + ridge))
        left_out = wanted - inverse / diagonal[:, None]
        lengths = np.linalg.norm(left_out, axis=1) * np.linalg.norm(wanted, axis=1)
        cosine = float(((left_out * wanted).sum(1) / np.maximum(lengths, 1e-12)).mean())
        if cosine > best:
            best, weights = cosine, features.T @ inverse
    return weights


def _in(
    gallery: Gallery, known: Pairs, attacked: Pairs, painted: Image | None
) -> tuple[Pairs, Pairs, Image | None]:
    """Those of the pairs whose original is in the gallery."""

    def part(pairs: Pairs) -> tuple[Pairs, NDArray[np.bool_]]:
        kept = np.array([name in gallery.landmarks for name in pairs.names], np.bool_)
        names = tuple(name for name in pairs.names if name in gallery.landmarks)
        return Pairs(names, pairs.before[kept], pairs.after[kept]), kept

    chosen, kept = part(attacked)
    return part(known)[0], chosen, None if painted is None else painted[kept]


def attack(known: Pairs, attacked: Pairs, judge: Judge, painted: Image | None) -> dict[str, Measured]:
    """What the attackers know of the attacked faces, by the name of the attack.

    Parameters
    ----------
    known
        Pairs of other people.
    attacked
        Of whom only ``after`` is looked at.
    judge
        The recogniser and its gallery.
    painted
        What :func:`invert` made of ``attacked.after``; without it only the recogniser is retrained.
    """
    gallery = judge.gallery
    known, attacked, painted = _in(gallery, known, attacked, painted)
    places = [gallery.names.index(name) for name in attacked.names]
    found: dict[str, Measured] = {}
    if painted is not None:
        looked = Identity(judge)
        for place, face in zip(places, painted, strict=True):
            embedding = _embedded(judge, face)
            nobody = -np.ones(len(gallery.names), np.float32)
            seen = nobody if embedding is None else gallery.embeddings @ embedding
            looked.note(place, seen, found=True)
        found["inversion"] = looked.compute()
    originals = np.stack([gallery.embeddings[gallery.names.index(name)] for name in known.names]).astype(
        np.float64
    )
    layer = retrain(_features(judge, known.after), originals)
    answered = _features(judge, attacked.after) @ layer
    answered /= np.maximum(np.linalg.norm(answered, axis=1, keepdims=True), 1e-12)
    looked = Identity(judge)
    for place, embedding in zip(places, answered.astype(np.float32), strict=True):
        looked.note(place, gallery.embeddings @ embedding, found=True)
    found["retrained"] = looked.compute()
    return found
