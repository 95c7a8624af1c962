"""Metrics of likeness that others publish: MS-SSIM, LPIPS and FID, each by its own weights or not at all.

All look at the same view of a photograph: the square about the labelled face, 256 pixels. Shape letters: N pictures,
S side of the view.
"""

import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from monai.metrics.fid import FIDMetric
from monai.metrics.regression import MultiScaleSSIMMetric
from torch import Tensor

from inference.bundle import digest
from inference.contract import Image
from inference.data import DataError
from inference.evaluate.exported import load_network
from inference.evaluate.metrics import Means, Measured
from inference.evaluate.scene import Scene
from inference.evaluate.statistics import Figure

VIEW_PX = 256
INCEPTION, VGG = "inception-2015-12-05.pt", "vgg16.pt"
SOURCE = "the TorchScript files of NVIDIA's StyleGAN2-ADA metrics"


def _pictures(scene: Scene, *pictures: Image) -> Tensor:
    """The same view of each, uint8 (N, 3, S, S)."""
    crop = scene.view(VIEW_PX)
    return (
        torch.from_numpy(np.stack([crop.take(picture) for picture in pictures]))
        .permute(0, 3, 1, 2)
        .contiguous()
    )


class MsSsim(Means):
    """1 − MS-SSIM (Wang, Simoncelli and Bovik, 2003) by MONAI: 0 for equal pictures."""

    name = "ms-ssim"

    def __init__(self) -> None:
        super().__init__()
        self._metric = MultiScaleSSIMMetric(spatial_dims=2, data_range=1.0)

    def update(self, scene: Scene, result: Image, seconds: float) -> None:
        """See :class:`inference.evaluate.metrics.Metric`."""
        del seconds
        before, after = (_pictures(scene, scene.image, result).float() / 255).split(1)
        self.note(scene, one_minus_ms_ssim=1 - float(torch.as_tensor(self._metric(after, before)).mean()))


class Lpips(Means):
    """LPIPS (Zhang et al., 2018) on VGG-16 with its learnt weights, from a folder of the user's.

    Raises
    ------
    DataError
        The file is no TorchScript network of that kind.
    """

    name = "lpips"

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._net = load_network(
            folder / VGG, f"{folder / VGG} is no TorchScript network; {SOURCE} are needed."
        )
        self.weights = digest(folder / VGG)

    @torch.inference_mode()
    def update(self, scene: Scene, result: Image, seconds: float) -> None:
        """See :class:`inference.evaluate.metrics.Metric`."""
        del seconds
        pair = _pictures(scene, scene.image, result).float()
        features = self._net(pair, resize_images=False, return_lpips=True)
        self.note(scene, lpips=float((features[0] - features[1]).square().sum()))


class Fid:
    """FID (Heusel et al., 2017) between originals and results, by Inception's weights from a folder of the user's.

    The distance is MONAI's. It is biased upwards by few pictures; compare only figures over equally many.

    Raises
    ------
    DataError
        The file is no TorchScript network of that kind.
    """

    name = "fid"

    def __init__(self, folder: Path) -> None:
        self._net = load_network(
            folder / INCEPTION, f"{folder / INCEPTION} is no TorchScript network; {SOURCE} are needed."
        )
        self.weights = digest(folder / INCEPTION)
        self._known: dict[str, Tensor] = {}
        self.reset()

    def reset(self) -> None:
        """Forget all results; features of originals are kept."""
        self._before: list[Tensor] = []
        self._after: list[Tensor] = []

    @torch.inference_mode()
    def update(self, scene: Scene, result: Image, seconds: float) -> None:
        """See :class:`inference.evaluate.metrics.Metric`."""
        del seconds
        if scene.name not in self._known:
            self._known[scene.name] = self._features(_pictures(scene, scene.image))
        self._before.append(self._known[scene.name])
        self._after.append(self._features(_pictures(scene, result)))

    def _features(self, pictures: Tensor) -> Tensor:
        found: Tensor = self._net(pictures, return_features=True)
        return found.reshape(1, -1).double()

    def compute(self) -> Measured:
        """The distance; NaN below two pictures, and where the covariances have no real root."""
        value = float("nan")
        if len(self._after) > 1:
            with warnings.catch_warnings():
                warnings.simplefilter(
                    "ignore", DeprecationWarning
                )  # MONAI calls scipy.linalg.sqrtm the old way
                with suppress(ValueError):  # the covariances have no real root
                    value = float(FIDMetric()(torch.cat(self._after), torch.cat(self._before)))
        return Measured({"fid": Figure(value, value, value)})


def available(folder: Path | None) -> tuple[list[MsSsim | Lpips | Fid], list[str]]:
    """The metrics that can be computed, and one sentence for each that is left out.

    Parameters
    ----------
    folder
        Holds :data:`INCEPTION`, :data:`VGG`, or both; none of them is shipped or downloaded.

    Raises
    ------
    DataError
        A file is there but is no such network, or a folder is given that holds none of them.
    """
    if folder is not None and not any((folder / file).is_file() for file in (INCEPTION, VGG)):
        raise DataError(f"{folder} holds neither {INCEPTION} nor {VGG}, {SOURCE}.")
    found: list[MsSsim | Lpips | Fid] = [MsSsim()]
    missing = []
    kinds: dict[str, tuple[str, Callable[[Path], Lpips | Fid]]] = {
        "LPIPS": (VGG, Lpips),
        "FID": (INCEPTION, Fid),
    }
    for name, (file, kind) in kinds.items():
        if folder is not None and (folder / file).is_file():
            found.append(kind(folder))
        else:
            where = (
                "give their folder as --metric-weights FOLDER" if folder is None else f"{folder} lacks them"
            )
            missing.append(f"{name} was left out: it needs its own weights ({file} of {SOURCE}); {where}.")
    return found, missing
