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
"""Largest deviation of a compiled model from the plain one, relative to the spread of its answer."""


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
    """

    def __init__(self, unet: Any, execution: Execution, reuse: int = 1) -> None:
        self.unet = unet.requires_grad_(False).eval()
        self.unet.to(execution.device, execution.dtype, memory_format=execution.layout)
        if execution.fused_projections:
            self.unet.fuse_qkv_projections()
        self._reuse = reuse
        self._whole: Callable[..., tuple[Tensor, ...]] = self._compute_whole
        self._outer: Callable[..., tuple[Tensor, ...]] = self._compute_outer
        if execution.compile:
            self._whole = proven(self._compute_whole, execution)
            self._outer = proven(self._compute_outer, execution)

    def steps(self) -> Callable[[int, Tensor, Tensor, Tensor], Tensor]:
        """A function (step, latents (N, 9, h, w), time (N,), states (N, T, D)) → noise (N, 4, h, w), for one run.

        It is called for steps 0, 1, 2 … in order and remembers the deep features between them. It raises
        ``ExecutionError`` where a compiled UNet fails, or answers differently from the plain one.
        """
        deep: list[Tensor] = []

        def noise(step: int, latents: Tensor, time: Tensor, states: Tensor) -> Tensor:
            if step % self._reuse == 0 or not deep:
                answer, *deep[:] = self._whole(latents, time, states)
            else:
                (answer,) = self._outer(latents, time, states, *deep)
            return answer

        return noise

    def _time(self, latents: Tensor, time: Tensor) -> Tensor:
        embedded: Tensor = self.unet.time_embedding(self.unet.time_proj(time).to(latents.dtype))
        return embedded

    def _compute_whole(self, latents: Tensor, time: Tensor, states: Tensor) -> tuple[Tensor, ...]:
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

    def _compute_outer(
        self, latents: Tensor, time: Tensor, states: Tensor, deep: Tensor
    ) -> tuple[Tensor, ...]:
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
        return (self._finish(deep, tuple(skips), told, states),)

    def _finish(self, x: Tensor, skips: tuple[Tensor, ...], told: Tensor, states: Tensor) -> Tensor:
        block = self.unet.up_blocks[-1]
        x = block(x, skips, told, **_text(block, states))
        noise: Tensor = self.unet.conv_out(self.unet.conv_act(self.unet.conv_norm_out(x)))
        return noise


def proven(
    function: Callable[..., tuple[Tensor, ...]], execution: Execution
) -> Callable[..., tuple[Tensor, ...]]:
    """``function`` compiled, one version a shape, each compared with the plain one when it is first used.

    The compiled function raises :class:`ExecutionError` where it cannot be compiled or answers differently.
    """
    fast = compiled(function, execution)
    known: set[tuple[torch.Size, ...]] = set()

    def call(*given: Tensor) -> tuple[Tensor, ...]:
        shapes = tuple(one.shape for one in given)
        try:
            # CUDA graphs write every answer to the same place.
            answers = tuple(one.clone() for one in fast(*given))
        except Exception as error:
            if shapes in known:
                raise
            # Compilers fail in many ways, all mean the same here.
            raise ExecutionError(
                "The models cannot be compiled on this machine; set [models] compile = false."
            ) from error
        if shapes not in known:
            for found, plain in zip(answers, function(*given), strict=True):
                if not float((found - plain).abs().max()) <= TOLERANCE * float(plain.float().std()):
                    raise ExecutionError(
                        "A compiled model answers differently from the plain one; set [models] compile = false."
                    )
            known.add(shapes)
        return answers

    return call


def compiled(function: Callable[..., Any], execution: Execution) -> Callable[..., Any]:
    """``function`` as torch.compile makes it."""
    # A version for each shape of each model; PyTorch gives up after eight.
    torch._dynamo.config.recompile_limit = 256
    return torch.compile(function, mode=execution.compile, fullgraph=True, dynamic=False)


def _text(block: nn.Module, states: Tensor) -> dict[str, Tensor]:
    return {"encoder_hidden_states": states} if getattr(block, "has_cross_attention", False) else {}
