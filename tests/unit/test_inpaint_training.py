"""The inpainter's training: what it learns from, that it learns, and that it goes on where it was ended."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
import torch
from diffusers import AutoencoderKL, StableDiffusionInpaintPipeline
from transformers import CLIPTokenizer

from inference.inpaint.autoencoder import (
    AutoencoderTraining,
    pyramid_difference,
    to_tensor,
    train_autoencoder,
)
from inference.inpaint.data import STORE_PX, Portraits, samples
from inference.inpaint.decoder import DecoderTraining, train_decoder
from inference.inpaint.perception import Perception
from inference.inpaint.train import InpaintTraining, Latents, Learner, train_inpaint

BUNDLE = Path("bundles/nano")


@pytest.fixture(scope="module")
def portraits() -> Portraits:
    """Two portraits, a person and her mirror image; one variant has a lesion on a cheek."""
    face = cv2.resize(skimage.data.astronaut()[15:215, 125:325], (STORE_PX, STORE_PX))
    labels = np.zeros((STORE_PX, STORE_PX), np.uint8)
    cv2.ellipse(labels, (128, 128), (60, 80), 0, 0, 360, 1, -1)
    cv2.rectangle(labels, (95, 105), (165, 125), 3, -1)
    lesion = np.zeros((STORE_PX, STORE_PX), bool)
    lesion[140:160, 90:110] = True
    images = np.stack([np.stack([face, face]), np.stack([face[:, ::-1], face[:, ::-1]])])
    lesions = np.zeros((2, 2, STORE_PX, STORE_PX), bool)
    lesions[:, 1] = lesion
    return Portraits(
        images, lesions, np.stack([labels, labels[:, ::-1]]), np.array([[-1, 0]] * 2), np.array([0, 0])
    )


@pytest.fixture(scope="module")
def perception() -> Perception:
    return Perception(BUNDLE / "segmenter")


def test_the_painted_picture_hides_what_the_gateway_hides_and_keeps_lesions(portraits: Portraits) -> None:
    drawn = list(samples(portraits, [0, 1] * 20, 128, seed=1))
    hidden = np.array([sample.hide.mean() for sample in drawn])
    assert (hidden > 0.05).all()
    assert len({sample.prompt for sample in drawn}) > 2
    again = list(samples(portraits, [0, 1] * 20, 128, seed=1))
    assert all(np.array_equal(a.image, b.image) for a, b in zip(drawn, again, strict=True))


def test_perception_is_zero_for_the_same_picture_and_grows_as_the_eyes_blur(
    portraits: Portraits, perception: Perception
) -> None:
    face = portraits.images[:1, 0, 64:192, 64:192]
    blurred = [cv2.GaussianBlur(face[0], (0, 0), sigma)[None] for sigma in (1, 4)]
    distances = [float(perception(to_tensor(picture), to_tensor(face))) for picture in (face, *blurred)]
    assert distances[0] < 1e-9
    assert distances[0] < distances[1] < distances[2]


def test_perception_teaches_the_painter(portraits: Portraits, perception: Perception) -> None:
    face = to_tensor(portraits.images[:1, 0, 64:192, 64:192])
    painted = (face + 0.1).requires_grad_()
    perception(painted, face).backward()
    assert painted.grad is not None
    assert float(painted.grad.abs().sum()) > 0


def test_the_difference_counts_only_where_its_weight_is() -> None:
    a, b = torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, 32, 32)
    b[..., :8] = 1
    weight = torch.zeros(1, 1, 32, 32)
    weight[..., 24:] = 1
    assert float(pyramid_difference(a, b, weight)) == 0
    assert float(pyramid_difference(a, b, 1 - weight)) > 0


def test_the_unet_learns_and_goes_on_where_it_was_ended(tmp_path: Path) -> None:
    draw = torch.Generator().manual_seed(2)
    latents = Latents(
        torch.randn(4, 4, 16, 16, generator=draw), torch.ones(4, 1, 16, 16),
        torch.zeros(4, 4, 16, 16), torch.zeros(4, 24, dtype=torch.long),
    )  # fmt: skip
    config = InpaintTraining(steps=6, batch=2, average_decay=0.5)
    vae = AutoencoderKL.from_pretrained(BUNDLE / "inpainter" / "vae", local_files_only=True)

    def run(learner: Learner, first: int, last: int) -> None:
        for step in range(first, last):
            learner.update(learner.loss(latents, step), step)

    whole = Learner(config)
    before = whole.loss(latents, 0).item()
    run(whole, 0, 4)
    halted = Learner(config)
    run(halted, 0, 2)
    halted.store(tmp_path / "unet.pt", 2, vae, tmp_path / "pipeline")
    resumed = Learner(config)
    assert resumed.load(tmp_path / "unet.pt") == 2
    run(resumed, 2, 4)
    for a, b in zip(whole.unet.parameters(), resumed.unet.parameters(), strict=True):
        assert torch.equal(a, b)
    assert whole.loss(latents, 0).item() < before


def test_only_what_is_under_the_mask_counts_when_nothing_else_has_weight() -> None:
    mask = torch.zeros(2, 1, 16, 16)
    latents = Latents(
        torch.randn(2, 4, 16, 16), mask, torch.zeros(2, 4, 16, 16), torch.zeros(2, 24, dtype=torch.long)
    )
    assert Learner(InpaintTraining(batch=2, seen_weight=0.0)).loss(latents, 0).item() == 0


def test_the_three_stages_make_a_pipeline_that_paints(
    tmp_path: Path, portraits: Portraits, perception: Perception
) -> None:
    start = AutoencoderKL.from_pretrained(BUNDLE / "inpainter" / "vae", local_files_only=True)
    train_autoencoder(
        portraits, tmp_path, AutoencoderTraining(steps=2, batch=2, adversarial_from=1), perception, start
    )
    learnt = AutoencoderKL.from_pretrained(tmp_path / "vae", local_files_only=True)
    train_inpaint(
        portraits, learnt, tmp_path, InpaintTraining(steps=2, batch=2, draws=2), start=BUNDLE / "inpainter"
    )
    train_decoder(portraits, tmp_path, DecoderTraining(steps=2, batch=2, draws=1, sampling_steps=2))
    sharpened = AutoencoderKL.from_pretrained(tmp_path / "vae", local_files_only=True)
    after = sharpened.state_dict()
    changed = {
        name
        for name, before in learnt.state_dict().items()
        if not torch.equal(before.half(), after[name].half())
    }
    assert changed
    assert all(name.startswith(("decoder", "post_quant_conv")) for name in changed)
    pipeline = StableDiffusionInpaintPipeline.from_pretrained(
        tmp_path / "pipeline", local_files_only=True, safety_checker=None, requires_safety_checker=False
    )
    assert pipeline.unet.config.in_channels == 9
    # The words keep their numbers from the pipeline that the training began with.
    begun = CLIPTokenizer.from_pretrained(BUNDLE / "inpainter" / "tokenizer", local_files_only=True)
    assert pipeline.tokenizer.get_vocab() == begun.get_vocab()
    assert abs(pipeline.vae.config.scaling_factor - 1) > 1e-6
