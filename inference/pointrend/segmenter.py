"""The segmenter of a bundle, in this process: from a folder with configuration and weights."""

from pathlib import Path

import numpy as np
import torch

from inference.contract import CLASSES, Floats, Image
from inference.pointrend.config import ConfigError, PointRendConfig
from inference.pointrend.model import PointRend, channels_last
from inference.pointrend.weights import WeightsError, load_weights

SIZE_PX = 256
"""S where the bundle names none."""


class PointRendSegmenter:
    """Names each pixel's class (:class:`inference.contract.Segmenter`).

    Parameters
    ----------
    folder
        Holds ``config.yaml`` and ``model.safetensors``, or detectron2's ``model_final.pth`` or ``.pkl``.
    classes
        Names of the model's channels, in order.
    size_px
        S, a multiple of 32.
    device
        Where it runs, in PyTorch's words; single precision everywhere.

    Raises
    ------
    ConfigError
        The configuration is missing, describes another model, or does not fit ``classes`` or ``size_px``.
    WeightsError
        The weights are missing or do not fit the configuration.
    """

    def __init__(
        self, folder: Path, classes: tuple[str, ...] = CLASSES, size_px: int = SIZE_PX, device: str = "cpu"
    ) -> None:
        model = PointRend(PointRendConfig.from_yaml(folder / "config.yaml"))
        names = ("model.safetensors", "model_final.pth", "model_final.pkl")
        present = [folder / name for name in names if (folder / name).is_file()]
        if not present:
            raise WeightsError(f"{folder.name} holds none of {', '.join(names)}")
        if len(classes) != model.config.classes:
            raise ConfigError(f"the model has {model.config.classes} classes, {len(classes)} are named")
        if size_px <= 0 or size_px % 32:
            raise ConfigError(f"size {size_px} is not a multiple of 32")
        load_weights(model, present[0])
        self._model = channels_last(model).eval().to(device)
        self._classes = classes
        self._size_px = size_px
        self._device = device

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in channel order."""
        return self._classes

    @property
    def size_px(self) -> int:
        """S, the side of the square input."""
        return self._size_px

    def segment(self, images: Image) -> Floats:
        """Class probabilities in [0, 1], float32 (N, C, S, S), of uint8 RGB (N, S, S, 3).

        Raises
        ------
        ValueError
            Another shape or type, or no picture at all.
        """
        if (
            images.dtype != np.uint8
            or images.ndim != 4
            or images.shape[1:] != (self._size_px, self._size_px, 3)
        ):
            raise ValueError(
                f"images must be uint8 (N, {self._size_px}, {self._size_px}, 3), not {images.shape}"
            )
        # On a CPU each picture alone: sums differ with the size of a batch, and with them where the model looks closer.
        step = 1 if self._device == "cpu" else max(len(images), 1)
        return np.concatenate([self._batch(images[i : i + step]) for i in range(0, len(images), step)])

    def _batch(self, images: Image) -> Floats:
        with torch.inference_mode():
            rgb = torch.from_numpy(np.ascontiguousarray(images)).to(self._device).permute(0, 3, 1, 2)
            pixels = (rgb if self._model.config.rgb else rgb.flip(1)).float()
            logits = self._model(pixels.contiguous(memory_format=torch.channels_last))
            return np.asarray(logits.softmax(dim=1).contiguous().cpu().numpy(), np.float32)
