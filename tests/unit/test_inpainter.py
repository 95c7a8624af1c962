"""The painter samples as diffusers does, repeats itself exactly, and never sees what it replaces."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
import sd2

from inference.execution import Execution, ExecutionError, execution
from inference.inpaint.denoiser import Denoiser
from inference.inpaint.inpainter import SCHEDULERS, DiffusionInpainter, load_pipeline, scheduler_of
from inference.inpaint.sd2 import random_pipeline

TEXTS = ["clinical photograph of a face", "acne"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return sd2.saved(tmp_path_factory.mktemp("sd2") / "pipeline")


@pytest.fixture(scope="module")
def case():
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (2, sd2.SIDE, sd2.SIDE, 3), dtype=np.uint8)
    hide = np.zeros((2, sd2.SIDE, sd2.SIDE), np.bool_)
    hide[0, 16:48, 8:56] = True
    hide[1, 5:60, 20:44] = True
    return images, hide


@pytest.mark.parametrize("guidance", [1.0, 4.0])
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_every_step_is_that_of_the_pipeline_of_diffusers(folder, case, guidance, scheduler, monkeypatch):
    images, hide = case
    ours = DiffusionInpainter(folder, steps=5, guidance=guidance, scheduler=scheduler)
    theirs = load_pipeline(folder)
    theirs.set_progress_bar_config(disable=True)
    theirs.scheduler = scheduler_of(theirs.scheduler, scheduler)
    from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution as Posterior

    monkeypatch.setattr(Posterior, "sample", lambda self, generator=None: self.mode())
    pictures = torch.from_numpy(np.where(hide[..., None], np.uint8(127), images)).permute(0, 3, 1, 2).float()
    with torch.inference_mode():
        expected = theirs(
            prompt=TEXTS,
            negative_prompt=["", ""] if guidance > 1 else None,
            image=pictures / 255,
            mask_image=torch.from_numpy(hide).float()[:, None],
            height=sd2.SIDE,
            width=sd2.SIDE,
            strength=1.0,
            num_inference_steps=5,
            guidance_scale=guidance,
            generator=[torch.Generator().manual_seed(seed) for seed in (3, 4)],
            output_type="pt",
        ).images
    found = ours.inpaint(images, hide, TEXTS, [3, 4])
    wanted = (expected * 255).round().clamp(0, 255).permute(0, 2, 3, 1).numpy()
    assert found.std() > 1
    assert np.abs(found - wanted).max() <= 1


def test_what_is_hidden_has_no_influence_and_seed_and_text_have(folder, case):
    images, hide = case
    painter = DiffusionInpainter(folder, steps=3)
    first = painter.inpaint(images, hide, TEXTS, [1, 2])
    other = images.copy()
    other[hide] = 255 - other[hide]
    assert np.array_equal(painter.inpaint(other, hide, TEXTS, [1, 2]), first)
    assert np.array_equal(painter.inpaint(images, hide, TEXTS, [1, 2]), first)
    assert not np.array_equal(painter.inpaint(images, hide, TEXTS, [1, 3])[1], first[1])
    assert not np.array_equal(painter.inpaint(images, hide, TEXTS[::-1], [1, 2]), first)


def test_many_pictures_are_painted_in_batches_each_with_its_own_text_and_seed(folder, case):
    images, hide = (np.concatenate([part] * 3)[:5] for part in case)
    prompts, seeds = [f"face {n}" for n in range(5)], list(range(5))
    whole = DiffusionInpainter(folder, steps=3, execution=Execution(batches=(2,))).inpaint(
        images, hide, prompts, seeds
    )
    alone = DiffusionInpainter(folder, steps=3, execution=Execution(batches=(1,)))
    for n in range(5):
        one = alone.inpaint(images[n : n + 1], hide[n : n + 1], prompts[n : n + 1], seeds[n : n + 1])
        assert np.abs(one[0].astype(int) - whole[n]).max() <= 1


def test_a_text_is_encoded_once(folder, case):
    painter = DiffusionInpainter(folder, steps=1)
    painter.read(["acne", "acne", "rosacea"])
    painter.inpaint(*case, ["acne", "rosacea"], [1, 2])
    assert painter._states.cache_info().misses == 2


def test_a_text_longer_than_the_encoder_reads_is_refused(folder):
    with pytest.raises(ValueError, match="reads 75"):
        DiffusionInpainter(folder, steps=1).read(["face " * 76])


@pytest.mark.parametrize("changes", [{"channels": 4}, {"prediction": "v_prediction"}])
def test_a_model_of_another_kind_is_refused(tmp_path, changes):
    with pytest.raises(ValueError, match="nine-channel ε-prediction"):
        DiffusionInpainter(sd2.saved(tmp_path / "p", **changes))


def test_a_safety_checker_is_neither_needed_nor_loaded(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "p")
    index = json.loads((folder / "model_index.json").read_text())
    index |= {
        "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
        "feature_extractor": ["transformers", "CLIPImageProcessor"],
    }
    (tmp_path / "p" / "model_index.json").write_text(json.dumps(index))
    assert DiffusionInpainter(tmp_path / "p", steps=1).size_px == sd2.SIDE


def test_the_noise_schedule_is_that_of_the_saved_scheduler_whatever_samples(folder):
    saved = load_pipeline(folder).scheduler
    for name in SCHEDULERS:
        made = scheduler_of(saved, name)
        assert torch.equal(made.alphas_cumprod, saved.alphas_cumprod)
        assert (made.config.prediction_type, made.config.steps_offset) == ("epsilon", 1)


def test_weights_that_are_no_numbers_paint_nothing(tmp_path, case):
    pipeline = sd2.pipeline()
    with torch.no_grad():
        pipeline.vae.decoder.conv_out.bias[0] = torch.nan
    pipeline.save_pretrained(tmp_path)
    with pytest.raises(FloatingPointError):
        DiffusionInpainter(tmp_path, steps=1).inpaint(*case, TEXTS, [1, 2])


@pytest.fixture(scope="module")
def unet():
    return sd2.pipeline().unet


@pytest.fixture
def asked():
    draw = torch.Generator().manual_seed(5)
    latents, states = torch.randn(2, 9, 8, 8, generator=draw), torch.randn(2, 77, 32, generator=draw)
    return latents, torch.tensor([400, 400]), states


def test_the_noise_is_what_the_unet_itself_answers(unet, asked):
    with torch.inference_mode():
        found = Denoiser(unet, Execution()).steps()(0, *asked)
        assert torch.allclose(found, unet(*asked).sample, atol=1e-5)


def test_deep_layers_are_reused_between_steps_and_never_between_runs(unet, asked):
    denoiser = Denoiser(unet, Execution(), reuse=2)
    latents, time, states = asked
    with torch.inference_mode():
        run = denoiser.steps()
        first, reused, fresh = (run(step, latents + step, time, states) for step in range(3))
        assert torch.allclose(first, unet(latents, time, states).sample, atol=1e-5)
        assert not torch.allclose(reused, unet(latents + 1, time, states).sample, atol=1e-5)
        assert torch.allclose(fresh, unet(latents + 2, time, states).sample, atol=1e-5)
        same = denoiser.steps()(0, latents, time, states)
        assert torch.allclose(denoiser.steps()(0, latents, time, states), same)
        # With the same latents the outer layers and the remembered deep ones are those of a whole pass.
        run = denoiser.steps()
        assert torch.allclose(run(0, *asked), run(1, *asked), atol=1e-5)


def test_a_compiled_model_is_given_full_batches_and_answers_alike(folder, case, monkeypatch):
    shapes = []

    def watched(function, execution):
        def call(*given):
            shapes.append(given[0].shape[0])
            return function(*given)

        return call

    monkeypatch.setattr("inference.inpaint.denoiser.compiled", watched)
    images, hide = (np.concatenate([part] * 2)[:3] for part in case)
    run = Execution(compile="default", batches=(1, 4))
    fast = DiffusionInpainter(folder, steps=3, guidance=2.0, reuse=2, execution=run)
    assert set(shapes) == {1, 2, 4, 8}, "every shape is compiled at the start, guided ones twice as large"
    shapes.clear()
    painted = fast.inpaint(images, hide, ["a"] * 3, [1, 2, 3])
    assert set(shapes) == {4, 8}
    plain = DiffusionInpainter(folder, steps=3, guidance=2.0, reuse=2)
    assert np.abs(painted.astype(int) - plain.inpaint(images, hide, ["a"] * 3, [1, 2, 3])).max() <= 1


def test_a_compiler_that_changes_the_answer_is_noticed_at_the_start(folder, monkeypatch):
    def wrong(function, execution):
        return lambda *given: tuple(2 * part for part in function(*given))

    monkeypatch.setattr("inference.inpaint.denoiser.compiled", wrong)
    with pytest.raises(ExecutionError, match="answers differently"):
        DiffusionInpainter(folder, execution=Execution(compile="default", batches=(1,)))


def test_a_compiler_that_fails_is_one_clear_sentence_at_the_start(folder, monkeypatch):
    def failing(function, execution):
        def call(*given):
            raise RuntimeError("no C compiler")

        return call

    monkeypatch.setattr("inference.inpaint.denoiser.compiled", failing)
    with pytest.raises(ExecutionError, match="compile = false"):
        DiffusionInpainter(folder, execution=Execution(compile="default", batches=(1,)))


def test_the_pipeline_that_time_is_measured_with_has_the_size_of_stable_diffusion_2():
    with torch.device("meta"):
        pipeline = random_pipeline(tiny=False)
    parts = (pipeline.unet, pipeline.vae, pipeline.text_encoder)
    assert [sum(p.numel() for p in part.parameters()) for part in parts] == [
        865_925_124,
        83_653_863,
        340_387_840,
    ]


def test_switches_follow_the_device():
    assert execution("cpu") == Execution()
    assert execution("cpu").dtype is torch.float32
    with pytest.raises(ExecutionError, match="no device 'abacus'"):
        execution("abacus")


def test_a_gpu_gets_bfloat16_fused_projections_and_graphs(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    run = execution("auto", compiled=True)
    assert (run.device, run.dtype, run.fused_projections) == ("cuda", torch.bfloat16, True)
    assert run.compile == "reduce-overhead"
    assert [run.padded(count) for count in (1, 3, 9, 16)] == [1, 4, 16, 16]
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "an old GPU")
    with pytest.raises(ExecutionError, match="bfloat16"):
        execution("cuda")


def test_bfloat16_and_fused_projections_paint_nearly_the_same(folder, case):
    images, hide = case
    plain = DiffusionInpainter(folder, steps=4).inpaint(images, hide, TEXTS, [1, 2]).astype(float)
    half = Execution(dtype=torch.bfloat16, fused_projections=True)
    rounded = DiffusionInpainter(folder, steps=4, execution=half).inpaint(images, hide, TEXTS, [1, 2])
    assert np.abs(rounded - plain).mean() < 4
