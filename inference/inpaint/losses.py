"""What fine-tuning adds to the denoising error: FFE, DIFF, and the preference of one painting over another.

Shape letters: N batch, s latent side, D features of the UNet's middle, h its side, K diseases. Errors and features are
float tensors; ε is the noise that was added, ε_θ what the UNet told of it.
"""

from typing import Any, Literal

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor

Form = Literal["separate", "literal"]

SATURATED = 0.02
"""A pair whose preference has a probability nearer than this to 0 or 1 teaches almost nothing."""


def critical_features(
    told: Tensor, noise: Tensor, share: float = 0.5, region: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """FFE, the fine features' error (Ano-Skin, Eq. 1, without its factor λ): mean(M_c · (O − T)²), and M_c.

    O is ε_θ and T is ε. M_c marks the places whose squared error, averaged over the channels, is at least ``share`` of
    the picture's largest. The error of the clean latents that ε_θ implies is that of ε times σ/α, one number a
    picture: M_c is the same there, and on ε no time step outweighs the others.

    Parameters
    ----------
    told, noise
        O and T, (N, 4, s, s).
    share
        Threshold as a share of the largest error of each picture, in [0, 1]; at 0 it is the plain squared error.
    region
        (N, 1, s, s), where critical features are looked for, above 0; everywhere without.

    Returns
    -------
    loss, mask
        Scalar; M_c, 0 or 1, (N, 1, s, s). A picture with nothing in ``region`` adds nothing.
    """
    error = (told - noise).square()
    height = error.detach().mean(1, keepdim=True)
    inside = torch.ones_like(height) if region is None else (region > 0).to(height)
    peak = (height * inside).amax((1, 2, 3), keepdim=True)
    mask = (height >= share * peak).to(height) * inside
    return (error * mask).mean(), mask


def pooled(features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of features (N, D, h, h) where ``mask`` (N, 1, S, S) in [0, 1] is, and which pictures have such a place.

    The mask is brought to h × h by area, so that a lesion smaller than a feature still has its weight.

    Returns
    -------
    values, present
        (N, D), 0 where the mask is empty; bool (N,).
    """
    height, width = features.shape[-2:]
    weight = F.adaptive_avg_pool2d(mask.to(features), (height, width))
    total = weight.sum((2, 3))
    values = (features * weight).sum((2, 3)) / total.clamp_min(1e-12)
    return values, total[:, 0] > 0


class Prototypes:
    """What each disease looks like to the UNet's middle, as a moving mean; DIFF compares with it.

    Parameters
    ----------
    memory
        Share of a prototype that stays when a batch shows its disease, in [0, 1).
    """

    def __init__(self, memory: float = 0.9) -> None:
        self._memory = memory
        self.values: dict[int, Tensor] = {}

    def state_dict(self) -> dict[str, Any]:
        """The prototypes, for a checkpoint."""
        return {"values": dict(self.values)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a checkpoint's prototypes."""
        self.values = dict(state["values"])

    @torch.no_grad()
    def follow(self, features: Tensor, diseases: Tensor) -> None:
        """Move towards features (N, D) of these diseases, int (N,)."""
        for disease in diseases.unique().tolist():
            mean = features[diseases == disease].detach().float().mean(0)
            known = self.values.get(disease)
            self.values[disease] = mean if known is None else torch.lerp(mean, known.to(mean), self._memory)

    def largest_cosine(self) -> float:
        """The largest cosine between two prototypes about their mean, in [−1, 1]; NaN with fewer than two."""
        if len(self.values) < 2:
            return float("nan")
        all_values = torch.stack(list(self.values.values()))
        unit = F.normalize(all_values - all_values.mean(0), dim=1)
        cosines = unit @ unit.T
        return float(cosines.fill_diagonal_(-1).max())


def disease_difference(
    features: Tensor, diseases: Tensor, prototypes: Prototypes, form: Form = "separate", margin: float = 0.0
) -> Tensor:
    """DIFF, how far diseases are from one another (Ano-Skin, Eq. 2, without its factor), over the pairs of a batch.

    A pair (i, j) is the mean feature z_i of a disease in the batch, which carries the gradient, and the moving
    prototype z_j of another. ``literal`` is the formula as printed, mean(1 − cos(z_i, z_j)): to minimise it makes
    diseases alike. ``separate`` is mean(relu(cos(z̃_i, z̃_j) − m)²), z̃ taken about the mean of all prototypes: to
    minimise it turns diseases away from one another. Two diseases alone lie opposite about their mean already.

    Parameters
    ----------
    features
        (N, D), pooled within lesions (:func:`pooled`).
    diseases
        int (N,), which disease each shows.
    prototypes
        Of all diseases met so far, those of the batch among them.
    form
        See above.
    margin
        m of ``separate``, a cosine in [−1, 1].

    Returns
    -------
    Tensor
        Scalar; 0 where there is no pair.
    """
    losses = []
    if len(prototypes.values) > 1:
        known = {disease: value.to(features) for disease, value in prototypes.values.items()}
        centre = torch.stack(list(known.values())).mean(0) if form == "separate" else 0.0
        for disease in diseases.unique().tolist():
            own = features[diseases == disease].mean(0) - centre
            for other, value in known.items():
                if other == disease:
                    continue
                cosine = F.cosine_similarity(own, value - centre, dim=0)
                losses.append(F.relu(cosine - margin).square() if form == "separate" else 1 - cosine)
    return torch.stack(losses).mean() if losses else features.sum() * 0


def painted_error(told: Tensor, noise: Tensor, mask: Tensor, seam: float = 0.5) -> Tensor:
    """Mean ‖ε − ε_θ‖² of each picture (N,), over what is painted and, weighted by ``seam``, a band about it.

    Parameters
    ----------
    told, noise
        ε_θ and ε, (N, 4, s, s).
    mask
        (N, 1, s, s), 1 where it is painted; the band is one latent wide, eight pixels.
    seam
        Weight of the band, ≥ 0.
    """
    band = F.max_pool2d(mask, 3, stride=1, padding=1) - mask
    weight = mask + seam * band
    return ((told - noise).square().mean(1, keepdim=True) * weight).sum((1, 2, 3)) / weight.sum(
        (1, 2, 3)
    ).clamp_min(1e-6)


class Preference:
    """Reference-free preference (SimPO, Meng 2024) for diffusion: L = −log σ(β[(e_l − e_w) − m]) + λ·e_w.

    e_w and e_l are the errors of the preferred and of the other painting under the same noise and time step. Their
    differences are of the order of 0.01, so m is ``margin`` times the running standard deviation of e_l − e_w: a fixed
    margin would saturate every pair. The anchor λ·e_w keeps the winner from getting worse while the loser gets worse
    faster.

    Parameters
    ----------
    beta
        β > 0.
    margin
        In standard deviations, usually in [0, 1].
    anchor
        λ ≥ 0.
    memory
        Share of the running moments that stays at each batch, in [0, 1).
    """

    def __init__(
        self, beta: float = 200.0, margin: float = 0.5, anchor: float = 1.0, memory: float = 0.98
    ) -> None:
        self._beta, self._margin, self._anchor, self._memory = beta, margin, anchor, memory
        self._seen, self._mean, self._square = 0.0, 0.0, 0.0

    def state_dict(self) -> dict[str, float]:
        """The running moments, for a checkpoint."""
        return {"seen": self._seen, "mean": self._mean, "square": self._square}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Take up a checkpoint's moments."""
        self._seen, self._mean, self._square = state["seen"], state["mean"], state["square"]

    @property
    def scale(self) -> float:
        """Running standard deviation of e_l − e_w; 0 before the first batch."""
        if self._seen == 0:
            return 0.0
        mean, square = self._mean / self._seen, self._square / self._seen
        return float(max(square - mean**2, 0.0) ** 0.5)

    def follow(self, gap: Tensor) -> None:
        """Take the differences e_l − e_w (N,) of one batch into the running moments."""
        fresh = 1 - self._memory
        self._seen = self._memory * self._seen + fresh
        self._mean = self._memory * self._mean + fresh * float(gap.detach().mean())
        self._square = self._memory * self._square + fresh * float(gap.detach().square().mean())

    def loss(self, winner: Tensor, loser: Tensor) -> tuple[Tensor, dict[str, float]]:
        """The loss of a batch of errors e_w and e_l (N,) under the present margin, and what is logged of it.

        Returns
        -------
        loss, figures
            Scalar; mean errors, the scale, the share of pairs rightly preferred (e_w < e_l), and the share whose
            preference is so sure that it teaches nothing (:data:`SATURATED`).
        """
        gap = loser - winner
        logit = self._beta * (gap - self._margin * self.scale)
        loss = -F.logsigmoid(logit).mean() + self._anchor * winner.mean()
        sure = torch.sigmoid(logit.detach())
        return loss, {
            "winner": float(winner.detach().mean()),
            "loser": float(loser.detach().mean()),
            "scale": self.scale,
            "preferred": float((gap > 0).float().mean()),
            "saturated": float(((sure < SATURATED) | (sure > 1 - SATURATED)).float().mean()),
        }
