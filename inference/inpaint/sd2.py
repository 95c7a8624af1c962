"""Stable Diffusion 2 inpainting built from its shape, with random weights: for measuring time, and small for tests."""

from typing import Any

import torch
from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionInpaintPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from inference.inpaint.build import build_tokenizer

TOKENS = 77


def random_pipeline(*, tiny: bool, seed: int = 0, channels: int = 9, prediction: str = "epsilon") -> Any:
    """The diffusers pipeline of Stable Diffusion 2 inpainting, full size (512²) or ``tiny`` (64², 1/2000 of it).

    Both have four levels, heads by level, linear projections, 77 tokens, scaled-linear noise and ε-prediction. The
    words are those of the nano bundle's tokenizer. ``channels`` and ``prediction`` make other models of it.
    """
    torch.manual_seed(seed)
    width = 32 if tiny else 1024
    side = 64 if tiny else 512
    tokenizer = build_tokenizer()
    tokenizer.model_max_length = TOKENS
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer) if tiny else 49408,
            hidden_size=width,
            intermediate_size=2 * width if tiny else 4096,
            num_hidden_layers=3 if tiny else 23,
            num_attention_heads=2 if tiny else 16,
            max_position_embeddings=TOKENS,
            hidden_act="gelu",
            projection_dim=width,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=0,
        )
    )
    unet = UNet2DConditionModel(
        sample_size=side // 8,
        in_channels=channels,
        out_channels=4,
        block_out_channels=(16, 32, 32, 32) if tiny else (320, 640, 1280, 1280),
        attention_head_dim=(1, 2, 2, 2) if tiny else (5, 10, 20, 20),
        layers_per_block=2,
        cross_attention_dim=width,
        norm_num_groups=8 if tiny else 32,
        use_linear_projection=True,
    )
    vae = AutoencoderKL(
        sample_size=side,
        block_out_channels=(8, 8, 16, 16) if tiny else (128, 256, 512, 512),
        layers_per_block=1 if tiny else 2,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        norm_num_groups=4 if tiny else 32,
        scaling_factor=0.18215,
    )
    return StableDiffusionInpaintPipeline(
        vae=vae,
        text_encoder=text,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=PNDMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            prediction_type=prediction,
            skip_prk_steps=True,
            steps_offset=1,
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
