"""The nano inpainter's parts other than its autoencoder: tokenizer, text encoder, nine-channel UNet, pipeline.

Same classes and same roles as Stable Diffusion 2 inpainting, at a hundredth of the size, so that everything that
loads, serves or fine-tunes the one works on the other.
"""

import json
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    DPMSolverMultistepScheduler,
    StableDiffusionInpaintPipeline,
    UNet2DConditionModel,
)
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from inference.contract import DISEASES
from inference.inpaint.data import TONES

TEXT_TOKENS = 24
TEXT_WIDTH = 64
_WORDS = (
    "a an the of in on with and without no showing clinical photograph photo picture portrait face skin person "
    "man woman old young older younger child adult male female smiling neutral beard glasses hair healthy normal "
    "severe mild moderate cheek forehead chin nose mouth eyes lesion lesions plaque plaques "
    "erythema papule papules pustule scale red"
)


def build_tokenizer() -> CLIPTokenizer:
    """A CLIP tokenizer whose vocabulary is the project's own words, other words falling apart into letters."""
    words = " ".join([_WORDS, *DISEASES, *TONES])
    raw = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token="<|endoftext|>"))  # noqa: S106
    raw.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=900,
        special_tokens=["<|startoftext|>", "<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    raw.train_from_iterator([words] * 4, trainer)
    trained = json.loads(raw.to_str())["model"]
    merges = [tuple(pair) if isinstance(pair, list) else tuple(pair.split(" ")) for pair in trained["merges"]]
    return CLIPTokenizer(vocab=trained["vocab"], merges=merges, model_max_length=TEXT_TOKENS)


def build_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """A two-layer CLIP text encoder, random weights; its last hidden state (N, 24, 64) conditions the UNet."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=TEXT_WIDTH,
            intermediate_size=2 * TEXT_WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=TEXT_TOKENS,
            projection_dim=TEXT_WIDTH,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def build_unet(sample_size: int = 16, channels: tuple[int, ...] = (64, 128, 176)) -> UNet2DConditionModel:
    """A nine-channel UNet (4 noisy latents, 1 mask, 4 masked-image latents; in that order), random weights."""
    deep = len(channels) - 1
    return UNet2DConditionModel(
        sample_size=sample_size,
        in_channels=9,
        out_channels=4,
        block_out_channels=channels,
        layers_per_block=1,
        down_block_types=("DownBlock2D",) + ("CrossAttnDownBlock2D",) * deep,
        up_block_types=("CrossAttnUpBlock2D",) * deep + ("UpBlock2D",),
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=8,
        norm_num_groups=16,
        use_linear_projection=True,
    )


def build_scheduler() -> DPMSolverMultistepScheduler:
    """Stable Diffusion 2's noise schedule (ε-prediction), sampled by DPM-Solver++ 2M on Karras' steps."""
    return DPMSolverMultistepScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="epsilon",
        algorithm_type="dpmsolver++",
        solver_order=2,
        use_karras_sigmas=True,
        steps_offset=1,
    )


def save_pipeline(
    folder: Path,
    vae: AutoencoderKL,
    unet: UNet2DConditionModel,
    text: CLIPTextModel,
    tokenizer: CLIPTokenizer,
) -> None:
    """Write the parts as a diffusers pipeline folder, weights in half precision."""
    vae_copy = AutoencoderKL.from_config(vae.config)
    unet_copy = UNet2DConditionModel.from_config(unet.config)
    text_copy = CLIPTextModel(text.config)
    for part, copy in ((vae, vae_copy), (unet, unet_copy), (text, text_copy)):
        copy.load_state_dict(part.state_dict())
        copy.to(torch.float16)
    pipeline = StableDiffusionInpaintPipeline(
        vae=vae_copy,
        text_encoder=text_copy,
        tokenizer=tokenizer,
        unet=unet_copy,
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder)
    without_paths(folder)


def without_paths(folder: Path) -> None:
    """Take the paths of this machine out of a pipeline's configurations, where diffusers leaves them."""
    for file in folder.rglob("*.json"):
        config = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(config, dict) and config.pop("_name_or_path", None) is not None:
            file.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
