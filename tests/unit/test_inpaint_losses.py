"""The losses of fine-tuning do what they claim, each against a value worked out by hand."""

import math
from pathlib import Path
from statistics import NormalDist
from typing import get_args

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from inference.inpaint.finetune import Losses
from inference.inpaint.losses import (
    Form,
    Preference,
    Prototypes,
    critical_features,
    disease_difference,
    painted_error,
    pooled,
)
from inference.inpaint.preferences import Preferring
from inference.inpaint.tuning import UNET_LAYERS
from inference.recipe import recipe

ROOT = Path(__file__).parents[2]
NANO, CONF = ROOT / "bundles/nano/inpainter", ROOT / "conf/training"


def errors(values: list[list[float]]) -> tuple[Tensor, Tensor]:
    """ε_θ and ε, four channels each, whose difference is the square root of these squared errors everywhere."""
    difference = torch.tensor(values)[None, None].sqrt().expand(1, 4, -1, -1)
    noise = torch.randn(1, 4, *difference.shape[-2:], generator=torch.Generator().manual_seed(1))
    return noise + difference, noise


def test_ffe_is_the_mean_of_the_errors_above_half_of_the_largest() -> None:
    told, noise = errors([[4.0, 1.0], [2.1, 1.9]])
    loss, mask = critical_features(told, noise)
    assert mask[0, 0].tolist() == [[1, 0], [1, 0]]
    assert loss.item() == pytest.approx((4 + 2.1) / 4, rel=1e-5)


def test_ffe_at_threshold_nought_is_the_squared_error() -> None:
    told, noise = errors([[4.0, 1.0], [2.1, 1.9]])
    assert critical_features(told, noise, share=0.0)[0].item() == pytest.approx(9.0 / 4, rel=1e-5)


def test_ffe_looks_only_where_it_is_told_to() -> None:
    told, noise = errors([[4.0, 1.0], [2.1, 1.9]])
    region = torch.tensor([[[[0.0, 1.0], [0.0, 1.0]]]])
    loss, mask = critical_features(told, noise, region=region)
    assert mask[0, 0].tolist() == [[0, 1], [0, 1]]
    assert loss.item() == pytest.approx((1 + 1.9) / 4, rel=1e-5)
    assert critical_features(told, noise, region=torch.zeros(1, 1, 2, 2))[0].item() == 0


def test_ffe_turns_the_gradient_towards_the_worst_places() -> None:
    told, noise = errors([[4.0, 1.0], [2.1, 1.9]])
    told.requires_grad_()
    critical_features(told, noise)[0].backward()
    assert told.grad is not None
    # d/dO of mean((O − T)²) over 16 values: 2 (O − T) / 16 where the mask is.
    expected = 2 * torch.tensor([[2.0, 0.0], [math.sqrt(2.1), 0.0]]) / 16
    assert torch.allclose(told.grad[0, 0], expected, atol=1e-6)


def test_a_lesion_smaller_than_a_feature_is_still_pooled() -> None:
    features = torch.arange(8.0).reshape(1, 2, 2, 2)
    mask = torch.zeros(1, 1, 16, 16)
    mask[..., 0, 15] = 1  # a single pixel in the upper right feature
    values, present = pooled(features, mask)
    assert values.tolist() == [[1.0, 5.0]]
    assert present.tolist() == [True]
    values, present = pooled(features, torch.zeros(1, 1, 16, 16))
    assert values.tolist() == [[0.0, 0.0]]
    assert present.tolist() == [False]


def three_prototypes() -> Prototypes:
    prototypes = Prototypes()
    prototypes.values = {
        0: torch.tensor([3.0, 0.0]),
        1: torch.tensor([3.0, 3.0]),
        2: torch.tensor([0.0, 0.0]),
    }
    return prototypes


def test_the_printed_form_of_diff_is_one_minus_the_cosine() -> None:
    feature, which = torch.tensor([[3.0, 4.0]]), torch.tensor([2])
    # cos((3, 4), (3, 0)) = 0.6 and cos((3, 4), (3, 3)) = 7 / (5 √2)
    expected = ((1 - 0.6) + (1 - 7 / (5 * math.sqrt(2)))) / 2
    assert disease_difference(feature, which, three_prototypes(), "literal").item() == pytest.approx(
        expected, rel=1e-5
    )


def test_the_separating_form_of_diff_is_the_squared_positive_cosine_about_the_mean() -> None:
    feature, which = torch.tensor([[3.0, 0.0]]), torch.tensor([0])
    # The mean is (2, 1): z̃ = (1, −1); the others (1, 2) and (−2, −1): cosines −1/√10 and −1/√10.
    assert disease_difference(feature, which, three_prototypes()).item() == 0
    expected = (0.5 - 1 / math.sqrt(10)) ** 2
    found = disease_difference(feature, which, three_prototypes(), margin=-0.5).item()
    assert found == pytest.approx(expected, rel=1e-5)
    near = torch.tensor([[4.0, 2.0]])  # z̃ = (2, 1): cosines 4/5 with (1, 2), −1 with (−2, −1)
    found = disease_difference(near, which, three_prototypes()).item()
    assert found == pytest.approx(0.8**2 / 2, rel=1e-5)


def test_one_disease_alone_differs_from_nothing() -> None:
    prototypes = Prototypes()
    feature = torch.ones(1, 2, requires_grad=True)
    prototypes.follow(feature, torch.tensor([3]))
    loss = disease_difference(feature, torch.tensor([3]), prototypes)
    assert loss.item() == 0
    loss.backward()
    assert math.isnan(prototypes.largest_cosine())


def test_prototypes_follow_slowly() -> None:
    prototypes = Prototypes(memory=0.75)
    prototypes.follow(torch.tensor([[4.0], [8.0]]), torch.tensor([1, 1]))
    prototypes.follow(torch.tensor([[2.0]]), torch.tensor([1]))
    assert prototypes.values[1].tolist() == [0.75 * 6 + 0.25 * 2]
    again = Prototypes()
    again.load_state_dict(prototypes.state_dict())
    assert again.values[1].tolist() == [5.0]


@pytest.mark.parametrize("form", ["separate", "literal"])
def test_minimising_diff_parts_diseases_and_the_printed_form_joins_them(form: str) -> None:
    draw = torch.Generator().manual_seed(4)
    pictures = torch.randn(5, 12, generator=draw) * 0.5 + torch.randn(1, 12, generator=draw)
    diseases = torch.arange(5)
    layer = torch.nn.Linear(12, 8, bias=False)
    torch.nn.init.normal_(layer.weight, std=0.3, generator=draw)
    prototypes = Prototypes(memory=0.5)
    optimiser = torch.optim.SGD(layer.parameters(), lr=0.2)

    def largest() -> tuple[float, float]:
        found = layer(pictures).detach()
        fresh = Prototypes()
        fresh.follow(found, diseases)
        unit = torch.nn.functional.normalize(found, dim=1)
        return fresh.largest_cosine(), float((unit @ unit.T).fill_diagonal_(-1).max())

    before = largest()
    for _ in range(60):
        features = layer(pictures)
        prototypes.follow(features, diseases)
        loss = disease_difference(features, diseases, prototypes, form)  # type: ignore[arg-type]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    after = largest()
    if form == "separate":
        assert after[0] < before[0] - 0.2
    else:
        assert after[1] > before[1] + 0.02


def test_the_error_of_a_painting_counts_its_place_and_its_seam() -> None:
    told, noise = errors([[1.0, 2.0, 3.0, 4.0]])
    mask = torch.tensor([[[[1.0, 0.0, 0.0, 0.0]]]])
    assert painted_error(told, noise, mask, seam=0.5).tolist() == pytest.approx(
        [(1 + 0.5 * 2) / 1.5], rel=1e-5
    )
    assert painted_error(told, noise, mask, seam=0.0).tolist() == pytest.approx([1.0], rel=1e-5)


def test_the_preference_is_what_the_formula_says() -> None:
    preference = Preference(beta=200, margin=0.5, anchor=2.0, memory=0.0)
    preference.follow(torch.tensor([0.00, 0.02]))
    assert preference.scale == pytest.approx(0.01, rel=1e-4)
    loss, figures = preference.loss(torch.tensor([0.30]), torch.tensor([0.31]))
    # β[(e_l − e_w) − m] = 200 (0.01 − 0.005) = 1
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-1)) + 2 * 0.30, rel=1e-4)
    assert figures["preferred"] == 1
    assert figures["saturated"] == 0


def test_the_loss_falls_as_the_winner_gets_likelier() -> None:
    preference = Preference()
    preference.follow(torch.tensor([-0.01, 0.01]))
    losses = [
        preference.loss(torch.tensor([winner]), torch.tensor([0.3]))[0].item() for winner in (0.31, 0.3, 0.29)
    ]
    assert losses[0] > losses[1] > losses[2]


def test_as_shipped_one_pair_in_sixteen_saturates_on_realistic_errors_and_a_fixed_margin_saturates_all() -> (
    None
):
    shipped = recipe(Preferring, CONF / "preferences.toml", "preference")
    draw = torch.Generator().manual_seed(6)
    gaps = 0.002 + 0.01 * torch.randn(20_000, generator=draw)
    preference = Preference(shipped.beta, shipped.margin, shipped.anchor, shipped.memory)
    for batch in gaps.split(4):
        preference.follow(batch)
    assert preference.scale == pytest.approx(0.01, rel=0.1)
    winner = torch.full_like(gaps, 0.3)
    _, figures = preference.loss(winner, winner + gaps)
    # β[(e_l − e_w) − m] is normal, of mean 200 (0.002 − 0.005) and deviation 2; sure is what lies beyond ±ln 49.
    normal = NormalDist(-0.6, 2.0)
    sure = normal.cdf(-math.log(49)) + 1 - normal.cdf(math.log(49))
    assert sure == pytest.approx(1 / 16, abs=1e-3)
    assert figures["saturated"] == pytest.approx(sure, abs=0.01)
    fixed = torch.sigmoid(shipped.beta * (gaps - 0.5))
    assert ((fixed < 0.02) | (fixed > 0.98)).all()


def test_the_anchor_keeps_the_winner_from_getting_worse() -> None:
    def gradient(anchor: float) -> float:
        winner = torch.tensor([0.30], requires_grad=True)
        Preference(anchor=anchor).loss(winner, torch.tensor([0.9]))[0].backward()
        assert winner.grad is not None
        return float(winner.grad)

    assert gradient(0.0) == pytest.approx(0.0, abs=1e-6)  # the pair is won, and nothing holds the winner
    assert gradient(1.0) == pytest.approx(1.0, abs=1e-6)


def test_ffe_and_diff_as_shipped_reach_adapters_that_have_not_learnt_yet() -> None:
    from peft import LoraConfig

    shipped = recipe(Losses, CONF / "inpaint.toml", "loss")
    torch.manual_seed(8)
    unet = UNet2DConditionModel.from_pretrained(NANO, subfolder="unet", local_files_only=True)
    unet.requires_grad_(False).float()
    unet.add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=UNET_LAYERS))
    names, trained = zip(*((n, p) for n, p in unet.named_parameters() if p.requires_grad), strict=True)
    assert all(bool(p.any()) != ("lora_B" in name) for name, p in zip(names, trained, strict=True))
    seen: list[Tensor] = []
    unet.mid_block.register_forward_hook(lambda *given: seen.append(given[2]))
    # Of four diseases two look nearly alike: those are what DIFF turns away from one another.
    noisy, noise, states = torch.randn(4, 9, 16, 16), torch.randn(4, 4, 16, 16), torch.randn(1, 24, 64)
    noisy[1] = noisy[0] + 0.1 * torch.randn(9, 16, 16)
    diseases, prototypes = torch.arange(4), Prototypes(shipped.memory)

    def losses() -> dict[str, Tensor]:
        told = unet(noisy, torch.full((4,), 300), states.expand(4, -1, -1)).sample
        features, _ = pooled(seen[-1], torch.ones(4, 1, 16, 16))
        prototypes.follow(features, diseases)
        forms = {form: disease_difference(features, diseases, prototypes, form, shipped.diff_margin)
                 for form in get_args(Form)}  # fmt: skip
        return {"ffe": critical_features(told, noise, shipped.ffe_share)[0], **forms}

    found = losses()
    gradients = {
        name: torch.autograd.grad(loss, trained, retain_graph=True, allow_unused=True)
        for name, loss in found.items()
    }
    for kind, each in gradients.items():
        reached = {name for name, one in zip(names, each, strict=True) if one is not None and one.any()}
        assert reached, kind
        assert all("lora_B" in name for name in reached), kind
    # One step against DIFF's gradient alone makes it smaller.
    assert shipped.diff_form == "separate"
    length = torch.cat([one.flatten() for one in gradients["separate"] if one is not None]).norm()
    with torch.no_grad():
        for parameter, one in zip(trained, gradients["separate"], strict=True):
            if one is not None:
                parameter.sub_(0.1 * one / length)
    assert losses()["separate"].item() < found["separate"].item()
