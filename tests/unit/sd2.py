"""A Stable Diffusion 2 inpainting pipeline of random weights, small enough for a test: same parts, same shapes."""

from pathlib import Path

import torch
from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionInpaintPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from inference.inpaint.build import build_tokenizer

TOKENS = 77
SIDE = 64


def pipeline(
    seed: int = 0, *, channels: int = 9, prediction: str = "epsilon", width: int = 32, layers: int = 3
):
    """Four levels, heads by level, linear projections, 77 tokens, scaled-linear noise: as SD 2, at 1/2000."""
    torch.manual_seed(seed)
    tokenizer = build_tokenizer()
    tokenizer.model_max_length = TOKENS
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=64,
            num_hidden_layers=layers,
            num_attention_heads=2,
            max_position_embeddings=TOKENS,
            hidden_act="gelu",
            projection_dim=width,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=0,
        )
    )
    unet = UNet2DConditionModel(
        sample_size=SIDE // 8,
        in_channels=channels,
        out_channels=4,
        block_out_channels=(16, 32, 32, 32),
        attention_head_dim=(1, 2, 2, 2),
        layers_per_block=2,
        cross_attention_dim=width,
        norm_num_groups=8,
        use_linear_projection=True,
    )
    vae = AutoencoderKL(
        sample_size=SIDE,
        block_out_channels=(8, 8, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        norm_num_groups=4,
        scaling_factor=0.18215,
    )
    scheduler = PNDMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type=prediction,
        skip_prk_steps=True,
        steps_offset=1,
    )
    return StableDiffusionInpaintPipeline(
        vae=vae,
        text_encoder=text,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def saved(folder: Path, **changes) -> Path:
    """Such a pipeline as a folder."""
    pipeline(**changes).save_pretrained(folder)
    return folder
