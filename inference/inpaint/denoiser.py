"""The nine-channel UNet as it is asked for noise, step by step; its deep layers may be reused between steps.

From one step to the next the deep, coarse features of a diffusion UNet hardly change (DeepCache, Ma et al., CVPR
2024). :class:`Denoiser` can compute them every few steps only, and in between the outermost down and up block alone.
Shape letters: N batch, h × w latents, T tokens, D width of the text's states.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from inference.execution import Execution, ExecutionError

TOLERANCE = 0.05
"""Largest deviation of the compiled UNet from the plain one, relative to the spread of its answer."""


class Denoiser:
    """Asks a UNet for the noise in latents.

    Parameters
    ----------
    unet
        ``UNet2DConditionModel`` with nine input channels.
    execution
        How it is computed.
    reuse
        The deep layers are computed at steps 0, ``reuse``, 2 ``reuse`` …; 1: at every step.

    Raises
    ------
    ExecutionError
        The compiled UNet answers differently from the plain one, or cannot be compiled.
    """

    def __init__(self, unet: Any, execution: Execution, reuse: int = 1) -> None:
        self.unet = unet.requires_grad_(False).eval()
        self.unet.to(execution.device, execution.dtype, memory_format=execution.layout)
        if execution.fused_projections:
            self.unet.fuse_qkv_projections()
        self._execution = execution
        self._reuse = reuse
        self._whole: Callable[..., tuple[Tensor, Tensor]] = self._compute_whole
        self._outer: Callable[..., Tensor] = self._compute_outer
        if execution.compile:
            self._whole = compiled(self._compute_whole, execution)
            self._outer = compiled(self._compute_outer, execution)
            self._prove()

    def steps(self) -> Callable[[int, Tensor, Tensor, Tensor], Tensor]:
        """A function (step, latents (N, 9, h, w), time (N,), states (N, T, D)) → noise (N, 4, h, w), for one run.

        It is called for steps 0, 1, 2 … in order and remembers the deep features between them.
        """
        deep: list[Tensor] = []

        def noise(step: int, latents: Tensor, time: Tensor, states: Tensor) -> Tensor:
            if step % self._reuse == 0 or not deep:
                answer, features = self._whole(latents, time, states)
                # CUDA graphs write every answer to the same place.
                deep[:] = [features.clone()] if self._reuse > 1 else [features]
                return answer.clone()
            return self._outer(latents, time, states, deep[0]).clone()

        return noise

    def _time(self, latents: Tensor, time: Tensor) -> Tensor:
        embedded: Tensor = self.unet.time_embedding(self.unet.time_proj(time).to(latents.dtype))
        return embedded

    def _compute_whole(self, latents: Tensor, time: Tensor, states: Tensor) -> tuple[Tensor, Tensor]:
        """Noise, and the features that enter the outermost up block."""
        told = self._time(latents, time)
        x = self.unet.conv_in(latents)
        skips: tuple[Tensor, ...] = (x,)
        for block in self.unet.down_blocks:
            x, more = block(x, told, **_text(block, states))
            skips += more
        if self.unet.mid_block is not None:
            x = self.unet.mid_block(x, told, **_text(self.unet.mid_block, states))
        for block in self.unet.up_blocks[:-1]:
            taken = len(block.resnets)
            x = block(x, skips[-taken:], told, **_text(block, states))
            skips = skips[:-taken]
        return self._finish(x, skips, told, states), x

    def _compute_outer(self, latents: Tensor, time: Tensor, states: Tensor, deep: Tensor) -> Tensor:
        """Noise from the outermost blocks and the deep features of an earlier step."""
        told = self._time(latents, time)
        x = self.unet.conv_in(latents)
        skips = [x]
        block = self.unet.down_blocks[0]
        looks = getattr(block, "attentions", [None] * len(block.resnets))
        for resnet, attention in zip(block.resnets, looks, strict=True):
            x = resnet(x, told)
            if attention is not None:
                x = attention(x, encoder_hidden_states=states, return_dict=False)[0]
            skips.append(x)
        return self._finish(deep, tuple(skips), told, states)

    def _finish(self, x: Tensor, skips: tuple[Tensor, ...], told: Tensor, states: Tensor) -> Tensor:
        block = self.unet.up_blocks[-1]
        x = block(x, skips, told, **_text(block, states))
        noise: Tensor = self.unet.conv_out(self.unet.conv_act(self.unet.conv_norm_out(x)))
        return noise

    @torch.inference_mode()
    def _prove(self) -> None:
        """Compile for the smallest batch, and compare the answer with the plain one's."""
        config, run = self.unet.config, self._execution
        draw = torch.Generator().manual_seed(0)
        side, count = int(config.sample_size), run.batches[0]
        latents = torch.randn(count, 9, side, side, generator=draw).to(run.device, run.dtype)
        states = torch.randn(count, 8, config.cross_attention_dim, generator=draw).to(run.device, run.dtype)
        time = torch.full((count,), 500, device=run.device)
        try:
            fast = self._whole(latents, time, states)[0].float()
        except Exception as error:  # compilers fail in many ways, all mean the same here
            raise ExecutionError(
                "The UNet cannot be compiled on this machine; set [models] compile = false."
            ) from error
        plain = self._compute_whole(latents, time, states)[0].float()
        if not float((fast - plain).abs().max()) <= TOLERANCE * float(plain.std()):
            raise ExecutionError(
                "The compiled UNet answers differently from the plain one; set [models] compile = false."
            )


def compiled(function: Callable[..., Any], execution: Execution) -> Callable[..., Any]:
    """``function`` as torch.compile makes it, one version a shape."""
    return torch.compile(function, mode=execution.compile, fullgraph=True, dynamic=False)


def _text(block: nn.Module, states: Tensor) -> dict[str, Tensor]:
    return {"encoder_hidden_states": states} if getattr(block, "has_cross_attention", False) else {}
