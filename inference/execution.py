"""How the models are computed on this machine: chosen by the device, never by the bundle.

None of it changes what is painted beyond rounding. Half precision is bfloat16 only: the attention of Stable Diffusion
2 overflows float16 and gives black pictures.
"""

from dataclasses import dataclass

import torch

GRAPHS = "reduce-overhead"
"""torch.compile's mode that records CUDA graphs."""


class ExecutionError(RuntimeError):
    """The machine cannot compute the models as asked; the message says what to change."""


@dataclass(frozen=True, slots=True)
class Execution:
    """The switches of one device.

    Attributes
    ----------
    device
        In PyTorch's words.
    dtype
        Of weights and activations; the sampler itself works in float32.
    channels_last
        Convolutions' weights and pictures lie as tensor cores (and CPUs) read them fastest.
    fused_projections
        Query, key and value come from one matrix product.
    compile
        torch.compile's mode for UNet and decoder; empty: they run as they are.
    batches
        Batch sizes, rising. More pictures are computed in several batches; a compiled model is given a full batch
        (the last picture repeated), so that it is compiled for these sizes only. On a CPU it is one: sums differ
        with the size of a batch, and each picture is to come out the same in any company.
    """

    device: str = "cpu"
    dtype: torch.dtype = torch.float32
    channels_last: bool = True
    fused_projections: bool = False
    compile: str = ""
    batches: tuple[int, ...] = (1,)

    @property
    def layout(self) -> torch.memory_format:
        """How pictures lie in memory."""
        return torch.channels_last if self.channels_last else torch.contiguous_format

    def parts(self, count: int) -> list[tuple[int, int]]:
        """Begin and end of each batch of ``count`` pictures."""
        largest = self.batches[-1]
        return [(begin, min(begin + largest, count)) for begin in range(0, count, largest)]

    def padded(self, count: int) -> int:
        """Size of the batch that ``count`` pictures are computed in."""
        return next(size for size in self.batches if size >= count) if self.compile else count


def execution(device: str = "auto", *, compiled: bool = False) -> Execution:
    """The switches for ``device``: ``auto`` (a GPU where there is one), ``cpu``, ``cuda`` or ``cuda:1``.

    A GPU gets bfloat16 and fused projections and, where ``compiled``, compiled models in CUDA graphs: the start then
    takes minutes for each batch size.

    Raises
    ------
    ExecutionError
        The device is not there, or cannot compute in bfloat16.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        return Execution(compile="default" if compiled else "")
    if not device.startswith("cuda") or not torch.cuda.is_available():
        raise ExecutionError(f"There is no device {device!r} here; set [models] device to auto, cpu or cuda.")
    if not torch.cuda.is_bf16_supported(including_emulation=False):
        raise ExecutionError(
            f"{torch.cuda.get_device_name(device)} cannot compute in bfloat16; set [models] device to cpu."
        )
    return Execution(
        device=device,
        dtype=torch.bfloat16,
        fused_projections=True,
        compile=GRAPHS if compiled else "",
        batches=(1, 2, 4, 8, 16),
    )
