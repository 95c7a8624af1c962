"""DeepPrivacy and AnonFaces, as TorchScript exports of their authors' or a site's networks.

Both are published as research code whose weights cannot be shipped with this project. Each is used through the one
function that its networks compute, with a ``generator.json`` that states its sizes. Shape letters: N faces, S side.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from inference.bundle import contents
from inference.contract import Floats, Image
from inference.crops import Crop
from inference.data import DataError
from inference.data.manifest import Photograph
from inference.evaluate.exported import load_network
from inference.evaluate.methods import K, groups, masked
from inference.evaluate.scene import Scene, open_scene

FETCH = {
    "deepprivacy": (
        "deepprivacy needs the generator of github.com/hukkelas/DeepPrivacy (its retinanet configuration, with "
        "jit_trace): save it as generator.pt beside a generator.json with size_px and z_shape, and give the folder as "
        "--weights deepprivacy=FOLDER."
    ),
    "anonfaces": (
        "anonfaces needs a GAN and its encoder (AnonFACES, Le et al. 2020, averages the latents of k faces): save "
        "encoder.pt and generator.pt as TorchScript beside a generator.json with size_px, and give the folder as "
        "--weights anonfaces=FOLDER."
    ),
}


def _network(name: str, folder: Path | None, file: str) -> Any:
    if folder is None or not (folder / file).is_file():
        raise DataError(FETCH[name])
    return load_network(
        folder / file, f"{folder / file} is damaged or no TorchScript network; fetch or export it again."
    )


def _sizes(name: str, folder: Path) -> dict[str, Any]:
    file = folder / "generator.json"
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        return {"size_px": int(found["size_px"]), "z_shape": tuple(int(v) for v in found.get("z_shape", ()))}
    except FileNotFoundError as error:
        raise DataError(FETCH[name]) from error
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise DataError(f"{file} does not state size_px and z_shape as numbers; correct it.") from error


def _pasted(scene: Scene, crop: Crop, face: Tensor) -> Image:
    """A generated face (3, S, S) in [−1, 1] in place of the labelled one."""
    made = ((face.float().permute(1, 2, 0).numpy() + 1) * 127.5).clip(0, 255)
    patch, rows, columns = crop.put(np.asarray(made, np.float32), *scene.image.shape[:2])
    result = masked(scene)
    inside = scene.face[rows, columns]
    result[rows, columns][inside] = np.clip(np.rint(patch[inside]), 0, 255).astype(np.uint8)
    return result


def _taken(scene: Scene, crop: Crop) -> Tensor:
    """The upright crop, float32 (1, 3, S, S) in [−1, 1]."""
    return (
        torch.from_numpy(np.ascontiguousarray(crop.take(scene.image))).permute(2, 0, 1)[None].float() / 127.5
        - 1
    )


class DeepPrivacy:
    """DeepPrivacy (Hukkelås et al., 2019): a conditional GAN that sees the face blanked, and five landmarks.

    ``generator.pt`` maps (condition (N, 3, S, S) in [−1, 1], 0 where the face is; mask (N, 1, S, S), 0 where the
    face is; landmarks (N, 10) in [0, 1] as x, y; z (N, *z_shape)) to faces (N, 3, S, S) in [−1, 1]. A face whose
    eyes or mouth are not labelled is masked.

    Raises
    ------
    DataError
        The export is not there; the message says what to fetch.
    """

    name = "deepprivacy"

    def __init__(self, folder: Path | None) -> None:
        self._net = _network(self.name, folder, "generator.pt")
        assert folder is not None
        sizes = _sizes(self.name, folder)
        self._size, self._z_shape = sizes["size_px"], sizes["z_shape"]
        self.fingerprint = f"deepprivacy {contents(folder)}"

    def prepare(self, photographs: Sequence[Photograph]) -> None:
        """Nothing to look at."""

    @torch.inference_mode()
    def apply(self, scene: Scene) -> Image:
        """The face as the generator makes it; see :class:`inference.evaluate.methods.Method`."""
        crop = scene.upright(self._size)
        if crop is None:
            return masked(scene)
        # whatever a hidden pixel has any influence on is hidden
        known = torch.from_numpy(~crop.take_mask(scene.face))[None, None].float()
        z = torch.randn(1, *self._z_shape, generator=torch.Generator().manual_seed(scene.seed))
        points = torch.from_numpy(_landmarks(scene, crop) / self._size).reshape(1, -1)
        return _pasted(scene, crop, self._net(_taken(scene, crop) * known, known, points, z)[0])


def _landmarks(scene: Scene, crop: Crop) -> Floats:
    """Five points (5, 2) in the crop from the labels: eyes, nose tip, mouth corners, the subject's right first."""
    labels = cv2.warpAffine(scene.labels, crop.matrix, (crop.size_px,) * 2, flags=cv2.INTER_NEAREST)
    middle = (crop.size_px - 1) / 2

    def points(label: int) -> Floats:
        ys, xs = np.nonzero(labels == label)
        found = np.stack([xs, ys], 1) if xs.size else np.array([[middle, middle]])
        return found.astype(np.float32)

    eyes, nose, mouth = points(3), points(4), points(5)
    right, left = (eyes[side] if side.any() else eyes for side in (eyes[:, 0] < middle, eyes[:, 0] >= middle))
    tip = np.array([nose[:, 0].mean(), np.quantile(nose[:, 1], 0.75)])
    corners = [mouth[mouth[:, 0].argmin()], mouth[mouth[:, 0].argmax()]]
    return np.stack([right.mean(0), left.mean(0), tip, *corners]).astype(np.float32)


class AnonFaces:
    """AnonFACES (Le et al., 2020): k faces share one, made from the mean of their latents.

    ``encoder.pt`` maps faces (N, 3, S, S) in [−1, 1] to latents (N, …), ``generator.pt`` latents to faces. Groups are
    made as k-same makes them, by the distance of latents. A face whose eyes or mouth are not labelled is masked.

    Raises
    ------
    DataError
        The export is not there; the message says what to fetch.
    """

    name = "anonfaces"

    def __init__(self, folder: Path | None, k: int = K) -> None:
        self._encoder = _network(self.name, folder, "encoder.pt")
        self._generator = _network(self.name, folder, "generator.pt")
        assert folder is not None
        self._size = _sizes(self.name, folder)["size_px"]
        self._k = k
        self._weights = contents(folder)
        self.fingerprint = f"anonfaces {self._weights} k {k}"
        self._latents: dict[str, Tensor] = {}

    @torch.inference_mode()
    def prepare(self, photographs: Sequence[Photograph]) -> None:
        """Encode all faces, group them and average each group's latents."""
        names, latents, seen = [], [], hashlib.sha256()
        for photograph in photographs:
            scene = open_scene(photograph)
            seen.update(scene.digest.encode())
            crop = scene.upright(self._size)
            if crop is not None:
                names.append(scene.name)
                latents.append(self._encoder(_taken(scene, crop))[0])
        self.fingerprint = f"anonfaces {self._weights} k {self._k} of {seen.hexdigest()}"
        self._latents = {}
        if not latents:
            return
        stacked = torch.stack(latents)
        flat = np.asarray(stacked.reshape(len(latents), -1).float().numpy(), np.float32)
        for members in groups(flat, self._k):
            shared = stacked[members].mean(0)
            self._latents |= {names[index]: shared for index in members}

    @torch.inference_mode()
    def apply(self, scene: Scene) -> Image:
        """The face that its group shares; see :class:`inference.evaluate.methods.Method`."""
        crop, latent = scene.upright(self._size), self._latents.get(scene.name)
        if crop is None or latent is None:
            return masked(scene)
        return _pasted(scene, crop, self._generator(latent[None])[0])
