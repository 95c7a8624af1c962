"""Every method does to a face what its name says, and nothing elsewhere where it promises so."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    EulerDiscreteScheduler,
    StableDiffusionXLInpaintPipeline,
    UNet2DConditionModel,
)
from evaluation import exported, scene, written
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from inference.bundle import contents
from inference.data import DataError
from inference.evaluate import generators, methods, ours, painters, registry
from inference.evaluate.methods import KSame, groups
from inference.evaluate.options import METHODS
from inference.inpaint.build import build_text_encoder, build_tokenizer, build_unet, save_pipeline

BUNDLE = Path("bundles/nano")


@pytest.mark.parametrize("name", ["none", "blurring", "masking", "pixelation"])
def test_nothing_beyond_the_face_is_touched(name: str) -> None:
    for seed in range(3):
        shown = scene(seed)
        result = methods.simple()[name]().apply(shown)
        assert result.dtype == np.uint8
        assert (result[~shown.face] == shown.image[~shown.face]).all()


def test_a_method_hides_what_it_says() -> None:
    shown = scene()
    apply = {name: make().apply(shown) for name, make in methods.simple().items() if name != "k-same"}
    assert (apply["none"] == shown.image).all()
    assert (apply["masking"][shown.face] == 0).all()
    eyes, mouth = shown.labels == 3, shown.labels == 5
    assert (apply["black-bar"][eyes] == 0).all()
    assert (apply["black-bar"][mouth] == shown.image[mouth]).all()
    edges = {
        name: float(cv2.Laplacian(picture, cv2.CV_32F)[shown.face].std()) for name, picture in apply.items()
    }
    assert edges["blurring"] < edges["none"] / 3
    assert (
        len(np.unique(apply["pixelation"][shown.face], axis=0))
        < len(np.unique(shown.image[shown.face], axis=0)) / 5
    )


def test_k_same_gives_at_least_k_people_one_face(tmp_path: Path) -> None:
    photographs = written(tmp_path, list(range(7)), ["test"] * 7, ["acne"] * 7)
    method = KSame(k=3)
    before = method.fingerprint
    method.prepare(photographs)
    assert method.fingerprint != before
    shown = [methods.open_scene(one) for one in photographs]
    crops = [one.upright(32) for one in shown]
    faces = [
        crop.take(method.apply(one))[12:20, 12:20] for one, crop in zip(shown, crops, strict=True) if crop
    ]
    alike = [sum(np.abs(a.astype(int) - b).mean() < 3 for b in faces) for a in faces]
    assert min(alike) >= 3


@given(st.integers(0, 40), st.integers(2, 6))
@settings(max_examples=30)
def test_every_face_is_in_one_group_of_at_least_k_where_there_are_k(count: int, k: int) -> None:
    vectors = np.random.default_rng(count).random((count, 3), dtype=np.float32)
    found = groups(vectors, k)
    assert sorted(index for group in found for index in group) == list(range(count))
    assert all(len(group) >= min(k, count) for group in found)


@pytest.mark.parametrize(
    "name",
    [name for name in METHODS if name not in methods.simple() and name not in {"anoskin", "anoskin-once"}],
)
def test_what_cannot_be_shipped_says_in_one_sentence_what_to_fetch(name: str) -> None:
    with pytest.raises(DataError) as caught:
        registry.make([name], BUNDLE, {})
    assert f"--weights {name}=FOLDER" in str(caught.value)


def test_an_unknown_method_is_refused_with_the_names_of_all() -> None:
    with pytest.raises(DataError, match="blurring, black-bar"):
        registry.make(["bluring"], BUNDLE, {})
    with pytest.raises(DataError, match="twice"):
        registry.make(["blurring", "blurring"], BUNDLE, {})


def test_weights_that_no_method_would_use_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="masking, which takes none"):
        registry.make(["masking"], BUNDLE, {"masking": tmp_path})
    with pytest.raises(DataError, match="sd2, which is not among --methods"):
        registry.make(["masking"], BUNDLE, {"sd2": tmp_path})


def _small_autoencoder() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        layers_per_block=1, latent_channels=4, norm_num_groups=4, sample_size=64,
    )  # fmt: skip


@pytest.fixture(scope="module")
def nine_channels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline of the shape of Stable Diffusion 2 inpainting, random weights."""
    folder = tmp_path_factory.mktemp("sd2")
    tokenizer = build_tokenizer()
    unet = build_unet(32, (16, 32))
    save_pipeline(folder, _small_autoencoder(), unet, build_text_encoder(tokenizer), tokenizer)
    return folder


@pytest.fixture(scope="module")
def two_encoders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline of the shape of Stable Diffusion XL inpainting, random weights."""
    tokenizer = build_tokenizer()
    config = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=24, projection_dim=32, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    unet = UNet2DConditionModel(
        sample_size=32, in_channels=9, out_channels=4, block_out_channels=(16, 32), layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=64, attention_head_dim=8, norm_num_groups=8, use_linear_projection=True,
        addition_embed_type="text_time", addition_time_embed_dim=8, projection_class_embeddings_input_dim=6 * 8 + 32,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("sdxl")
    StableDiffusionXLInpaintPipeline(
        vae=_small_autoencoder(),
        text_encoder=CLIPTextModel(config), text_encoder_2=CLIPTextModelWithProjection(config),
        tokenizer=tokenizer, tokenizer_2=tokenizer, unet=unet,
        scheduler=EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"),
    ).save_pretrained(folder)  # fmt: skip
    return folder


@pytest.mark.parametrize(
    ("name", "shape"), [("sd2", "nine_channels"), ("dreamlike", "nine_channels"), ("sdxl", "two_encoders")]
)
def test_a_plain_inpainter_paints_the_whole_photograph_anew(
    name: str, shape: str, request: pytest.FixtureRequest
) -> None:
    method = painters.PlainInpainting(name, request.getfixturevalue(shape), steps=2)
    shown = scene()
    result = method.apply(shown)
    assert result.shape == shown.image.shape
    assert result.dtype == np.uint8
    assert (result == method.apply(shown)).all()
    # All pixels go through the autoencoder, none is pasted back: that is what makes it plain.
    assert (result[~shown.face] != shown.image[~shown.face]).any()


def test_a_folder_without_a_pipeline_says_what_to_fetch(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text("{}")
    with pytest.raises(DataError, match="sd2-community/stable-diffusion-2-inpainting"):
        painters.PlainInpainting("sd2", tmp_path)


def test_whatever_could_change_a_result_is_in_a_folders_digest(tmp_path: Path) -> None:
    for name in ("unet/weights.bin", "scheduler/config.json", ".cache/seen"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("as fetched")
    seen = contents(tmp_path)
    (tmp_path / ".cache/seen").write_text("again")
    assert contents(tmp_path) == seen
    for name in ("unet/weights.bin", "scheduler/config.json"):
        (tmp_path / name).write_text("changed")
        assert contents(tmp_path) != seen
        seen = contents(tmp_path)
    (tmp_path / "unet/weights.bin").rename(tmp_path / "unet/other.bin")
    assert contents(tmp_path) != seen


def test_a_painter_with_another_configuration_is_another(nine_channels: Path, tmp_path: Path) -> None:
    before = painters.PlainInpainting("sd2", nine_channels).fingerprint
    other = Path(shutil.copytree(nine_channels, tmp_path / "other"))
    file = other / "scheduler/scheduler_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "beta_end": 0.02}))
    assert painters.PlainInpainting("sd2", other).fingerprint != before
    (other / "text_encoder/model.safetensors").write_bytes(b"cut off")
    with pytest.raises(DataError, match="a damaged one"):
        painters.PlainInpainting("sd2", other)


class _Conditional(torch.nn.Module):
    """DeepPrivacy's inputs and output, nothing learnt: the condition where the face is not, else noise and pose."""

    def forward(
        self, condition: torch.Tensor, mask: torch.Tensor, landmarks: torch.Tensor, z: torch.Tensor
    ) -> torch.Tensor:
        made = torch.tanh(z.mean((1, 2, 3)) + landmarks.mean(1)).reshape(-1, 1, 1, 1) * torch.ones_like(
            condition
        )
        return condition * mask + (1 - mask) * made


def test_deepprivacy_never_sees_the_face(tmp_path: Path) -> None:
    exported(_Conditional(), tmp_path / "generator.pt")
    (tmp_path / "generator.json").write_text(json.dumps({"size_px": 64, "z_shape": [4, 2, 2]}))
    method = generators.DeepPrivacy(tmp_path)
    shown = scene()
    noise = np.random.default_rng(0).integers(0, 256, shown.image.shape, dtype=np.uint8)
    other = methods.Scene(shown.photograph, np.where(shown.face[..., None], noise, shown.image), shown.labels)
    result = method.apply(shown)
    assert (result == method.apply(other))[shown.face].all()
    assert (result[~shown.face] == shown.image[~shown.face]).all()


def test_a_damaged_generator_is_told_from_a_missing_one(tmp_path: Path) -> None:
    exported(_Conditional(), tmp_path / "generator.pt")
    sizes, network = tmp_path / "generator.json", tmp_path / "generator.pt"
    sizes.write_text(json.dumps({"size_px": 64, "z_shape": [4, 2, 2]}))
    before = generators.DeepPrivacy(tmp_path).fingerprint
    sizes.write_text(json.dumps({"size_px": 32, "z_shape": [4, 2, 2]}))
    assert generators.DeepPrivacy(tmp_path).fingerprint != before
    sizes.write_text("[]")
    with pytest.raises(DataError, match=r"generator\.json does not state size_px"):
        generators.DeepPrivacy(tmp_path)
    network.write_bytes(network.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"generator\.pt is damaged"):
        generators.DeepPrivacy(tmp_path)
    network.unlink()
    with pytest.raises(DataError, match="--weights deepprivacy=FOLDER"):
        generators.DeepPrivacy(tmp_path)


class _Encoder(torch.nn.Module):
    def forward(self, faces: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.adaptive_avg_pool2d(faces, 8)


class _Decoder(torch.nn.Module):
    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.interpolate(latents, size=[64, 64], mode="bilinear")


def test_anonfaces_paints_the_mean_of_k_latents(tmp_path: Path) -> None:
    for name, net in (("encoder", _Encoder()), ("generator", _Decoder())):
        exported(net, tmp_path / f"{name}.pt")
    (tmp_path / "generator.json").write_text(json.dumps({"size_px": 64}))
    photographs = written(tmp_path, [1, 2], ["test"] * 2, ["acne"] * 2)
    method = generators.AnonFaces(tmp_path, k=2)
    method.prepare(photographs)
    made = []
    for one in photographs:
        shown = methods.open_scene(one)
        crop = shown.upright(32)
        assert crop is not None
        made.append(crop.take(method.apply(shown)).astype(int)[8:24, 8:24])
    assert np.abs(made[0] - made[1]).mean() < 3


@pytest.mark.models
def test_an_ablation_may_be_a_lora_for_the_bundles_unet(tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    unet = UNet2DConditionModel.from_pretrained(BUNDLE / "inpainter" / "unet", torch_dtype=torch.float32)
    adapted = get_peft_model(unet, LoraConfig(r=2, target_modules=["to_q", "to_v"], init_lora_weights=False))
    adapted.save_pretrained(tmp_path)
    plain, changed = ours.load("anoskin", BUNDLE), ours.load("anoskin-without-ffe", BUNDLE, tmp_path)
    assert plain.fingerprint != changed.fingerprint
    import skimage.data

    face = np.asarray(skimage.data.astronaut()[:256, 96:352], np.uint8)
    shown = methods.Scene(scene().photograph, face, np.zeros(face.shape[:2], np.uint8))
    results = [method.apply(shown) for method in (plain, changed)]
    assert (results[0] != results[1]).any()
    assert (results[0] != face).any()
