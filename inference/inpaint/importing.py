"""A site's Stable Diffusion 2 inpainting weights become the inpainter of a bundle: checked, LoRA fused, pinned."""

import json
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from inference.bundle import BundleError, digest
from inference.inpaint.build import without_paths
from inference.inpaint.inpainter import DiffusionInpainter, load_pipeline

WANTED = ("*.json", "*/*.json", "*/*.txt", "*/*.safetensors", "LICENSE*")
UNWANTED = ("*fp16*", "*non_ema*", "safety_checker/*")
OPENCLIP_WIDTH, OPENCLIP_LAYERS = 1024, 24
"""Shape of the text encoder of Stable Diffusion 2, which reads the last layer but one."""


@dataclass(frozen=True, slots=True)
class InpaintSource:
    """Where an inpainter comes from.

    Attributes
    ----------
    base
        A diffusers folder, or an id on the model hub.
    revision
        The commit on the hub, 40 hexadecimal digits; not for folders.
    files
        SHA-256 of files of the base that have to be exactly these; may be empty.
    lora
        Folder of an adapter, as peft or diffusers saves it.
    lora_scale
        How strongly it is fused, 1 being as trained.
    """

    base: str
    revision: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    lora: Path | None = None
    lora_scale: float = 1.0


def import_inpaint(source: InpaintSource, folder: Path) -> None:
    """Write the pipeline into ``folder``, in half precision, with ``source.json`` saying where it comes from.

    Raises
    ------
    BundleError
        The base cannot be had, is not the one pinned or no model of this kind, or the LoRA does not fit it.
    """
    base = _base(source)
    for name, wanted in source.files.items():
        if not (base / name).is_file() or digest(base / name) != wanted:
            raise BundleError(f"{source.base}: {name} is missing or is not the file that was pinned.")
    try:
        pipeline = load_pipeline(base)
    except Exception as error:  # diffusers raises many kinds for a folder it cannot load
        raise BundleError(f"{source.base} is no inpainting pipeline that can be used: {error}") from error
    check(pipeline)
    if source.lora is not None:
        fuse_lora(pipeline, source.lora, source.lora_scale)
    for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
        part.to(torch.float16)
        if not all(
            bool(torch.isfinite(t).all()) for t in part.state_dict().values() if t.is_floating_point()
        ):
            raise BundleError(f"{source.base}: weights are no numbers, or too large for half precision.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as place:
        written = Path(place) / "pipeline"
        pipeline.save_pretrained(written)
        without_paths(written)
        for licence in base.glob("LICENSE*"):
            shutil.copy(licence, written)
        (written / "source.json").write_text(json.dumps(_provenance(source, base), indent=2) + "\n")
        try_out(written)
        if folder.exists():
            shutil.rmtree(folder)
        written.rename(folder)


def _base(source: InpaintSource) -> Path:
    if Path(source.base).is_dir():
        return Path(source.base)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", source.base):
        raise BundleError(f"{source.base!r} is neither a folder nor an id on the model hub (OWNER/NAME).")
    if not re.fullmatch(r"[0-9a-f]{40}", source.revision):
        raise BundleError(
            f"{source.base} has to be pinned: give the commit (40 hexadecimal digits) as the revision."
        )
    from huggingface_hub import snapshot_download

    try:
        found = snapshot_download(
            source.base, revision=source.revision, allow_patterns=list(WANTED), ignore_patterns=list(UNWANTED)
        )
    except Exception as error:  # the network, the hub and its client fail in many ways
        raise BundleError(
            f"{source.base} at {source.revision} could not be had from the model hub ({type(error).__name__}); "
            "where there is no way out, bring the folder and give its path."
        ) from error
    return Path(str(found))


def _provenance(source: InpaintSource, base: Path) -> dict[str, Any]:
    said: dict[str, Any] = {
        "base": source.base if source.revision else base.name,
        "revision": source.revision,
        "files": {p.relative_to(base).as_posix(): digest(p) for p in sorted(base.rglob("*.safetensors"))},
    }
    if source.lora is not None:
        said["lora"] = {p.name: digest(p) for p in sorted(source.lora.glob("*.safetensors"))}
        said["lora_scale"] = source.lora_scale
    return said


def check(pipeline: Any) -> None:
    """What :func:`load_pipeline` does not look at: text, latents and pictures fit each other as the sampler expects.

    Raises
    ------
    BundleError
        They do not.
    """
    text, unet, vae = pipeline.text_encoder.config, pipeline.unet.config, pipeline.vae.config
    if text.hidden_size == OPENCLIP_WIDTH and text.num_hidden_layers >= OPENCLIP_LAYERS:
        raise BundleError(
            f"The text encoder has {text.num_hidden_layers} layers; Stable Diffusion 2 was trained on the last but "
            "one of OpenCLIP, so its encoder ends there. Use a folder that diffusers converted."
        )
    if unet.cross_attention_dim != text.hidden_size:
        raise BundleError(
            f"The UNet reads texts of width {unet.cross_attention_dim}, the encoder gives {text.hidden_size}."
        )
    limit = pipeline.tokenizer.model_max_length
    if limit < 10**6 and limit != text.max_position_embeddings:
        raise BundleError(
            f"The tokenizer makes {limit} tokens, the text encoder reads {text.max_position_embeddings}."
        )
    if vae.latent_channels != 4 or unet.out_channels != 4:
        raise BundleError(f"The autoencoder has {vae.latent_channels} latent channels; 4 are needed.")
    if unet.sample_size % 2 ** (len(unet.block_out_channels) - 1):
        raise BundleError(
            f"The UNet's side of {unet.sample_size} latents cannot be halved as often as it does."
        )


def fuse_lora(pipeline: Any, lora: Path, scale: float) -> None:
    """Add an adapter's weights to the pipeline's own; every layer it names has to be found there.

    ``lora`` is what peft saves of the UNet (``adapter_config.json``), or diffusers (``pytorch_lora_weights``).

    Raises
    ------
    BundleError
        The folder holds no adapter, or one of another model.
    """
    parts = {"unet": pipeline.unet, "text_encoder": pipeline.text_encoder}
    before = {name: _linear(part) for name, part in parts.items()}
    wanted = _adapted(lora)
    if not wanted:
        raise BundleError(f"{lora} holds no LoRA in safetensors that would change anything.")
    try:
        if (lora / "adapter_config.json").is_file():
            from peft import PeftModel
            from peft.tuners.lora import LoraLayer

            adapted = PeftModel.from_pretrained(pipeline.unet, lora)
            for module in adapted.modules():
                if isinstance(module, LoraLayer):
                    module.scale_layer(scale)
            pipeline.unet = adapted.merge_and_unload()
        else:
            pipeline.load_lora_weights(lora)
            pipeline.fuse_lora(lora_scale=scale)
            pipeline.unload_lora_weights()
    except Exception as error:  # peft and diffusers raise many kinds for an adapter of another model
        raise BundleError(f"The LoRA in {lora} does not fit this model: {error}") from error
    after = {"unet": pipeline.unet, "text_encoder": pipeline.text_encoder}
    changed = sum(
        not torch.equal(weight, _linear(after[name])[key])
        for name, weights in before.items()
        for key, weight in weights.items()
    )
    if scale != 0 and changed != wanted:
        raise BundleError(f"The LoRA in {lora} adapts {wanted} layers, of which this model has {changed}.")


def _linear(part: Any) -> dict[str, Tensor]:
    return {name: t.detach().clone() for name, t in part.state_dict().items() if t.ndim >= 2}


def _adapted(lora: Path) -> int:
    """How many layers the adapter changes: those whose second factor is not zero."""
    from safetensors.torch import load_file

    count = 0
    for file in lora.glob("*.safetensors"):
        for name, tensor in load_file(file).items():
            second = re.search(r"lora(_B|\.up|_up|_linear_layer\.up)\b", name)
            count += bool(second and tensor.any())
    return count


def try_out(folder: Path) -> None:
    """Paint once, in two steps.

    Raises
    ------
    BundleError
        What came out is no picture.
    """
    painter = DiffusionInpainter(folder, steps=2)
    side = painter.size_px
    grey = np.full((1, side, side, 3), 128, np.uint8)
    hide = np.zeros((1, side, side), np.bool_)
    hide[:, side // 4 : -side // 4, side // 4 : -side // 4] = True
    try:
        painted = painter.inpaint(grey, hide, ["a face"], [0])
    except FloatingPointError as error:
        raise BundleError(f"{folder.name}: {error}.") from error
    if not painted[hide].std() > 0:
        raise BundleError("The inpainter paints one flat colour; its weights are not usable.")
