"""The models of a bundle on Triton servers (``engine = "triton"``); faces are searched in this process.

Shape letters: N batch, C classes, S square side.
"""

import atexit
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.bundle import Bundle, BundleError, part_digest, read_bundle, verify
from inference.contract import Floats, Image, Mask, Models
from inference.local import assembled, load_faces
from inference.wire import INPAINT, LARGEST_REQUEST, PARTS, POINTREND, pack

try:
    from inference.endpoints import Endpoints, Question, Terms
except ImportError as error:
    raise BundleError(
        f"Triton cannot be asked: {error.name} is not installed; install anoskin-gateway[triton]."
    ) from error

__all__ = ["Terms", "TritonInpainter", "TritonSegmenter", "load_models"]


class TritonSegmenter:
    """The segmenter of a bundle, served (:class:`inference.contract.Segmenter`)."""

    def __init__(self, bundle: Bundle, servers: Endpoints) -> None:
        self._classes, self._size_px = bundle.classes, bundle.size_px
        self._digest = part_digest(bundle, PARTS[POINTREND])
        self._servers = servers
        self._probe = self._question(np.zeros((1, self._size_px, self._size_px, 3), np.uint8))

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
        Unavailable
            No server answers now.
        ValueError
            Another shape or type.
        """
        _require(images, self._size_px)
        return np.concatenate(
            [self._servers.ask(self._question(images[part]), self._probe) for part in requests(len(images))]
        )

    def _question(self, images: Image) -> Question:
        shape = (len(images), len(self._classes), self._size_px, self._size_px)
        return Question(POINTREND, self._digest, {"images": images}, "probabilities", shape, np.float32)


class TritonInpainter:
    """The inpainter of a bundle, served (:class:`inference.contract.Inpainter`)."""

    def __init__(self, bundle: Bundle, servers: Endpoints) -> None:
        self._size_px = inpainter_size_px(bundle)
        self._digest = part_digest(bundle, PARTS[INPAINT])
        self._servers = servers
        side = (1, self._size_px, self._size_px)
        # Nothing to hide: answered without painting.
        self._probe = self._question(np.zeros((*side, 3), np.uint8), np.zeros(side, np.bool_), [""], [0])

    @property
    def size_px(self) -> int:
        """S, the side of the square input and output."""
        return self._size_px

    def inpaint(self, images: Image, hide: Mask, prompts: Sequence[str], seeds: Sequence[int]) -> Image:
        """Painted uint8 RGB (N, S, S, 3), True in ``hide`` (N, S, S) being replaced.

        Raises
        ------
        Unavailable
            No server answers now.
        ValueError
            Another shape or type, or the model has no numbers for this.
        """
        _require(images, self._size_px)
        if not len(images) == len(hide) == len(prompts) == len(seeds) or hide.shape != images.shape[:3]:
            raise ValueError("each image needs one mask of its size, one prompt and one seed")
        blanked = np.where(hide[..., None], np.uint8(0), images)  # what is hidden does not leave this process
        return np.concatenate(
            [
                self._servers.ask(
                    self._question(blanked[part], hide[part], prompts[part], seeds[part]), self._probe
                )
                for part in requests(len(images))
            ]
        )

    def _question(self, images: Image, hide: Mask, prompts: Sequence[str], seeds: Sequence[int]) -> Question:
        inputs: dict[str, NDArray[Any]] = {
            "images": images,
            "hide": hide.astype(np.uint8),
            "prompts": pack(prompts),
            "seeds": np.array(seeds, np.int64)[:, None],
        }
        return Question(INPAINT, self._digest, inputs, "painted", images.shape, np.uint8)


def load_models(folder: Path, urls: Sequence[str], terms: Terms, *, threads: int = 0) -> Models:
    """The models of the bundle in ``folder``, its segmenter and inpainter served by Triton; no server is asked yet.

    Parameters
    ----------
    folder
        Of the bundle whose parts were exported to the servers; a server that serves another one is not used.
    urls
        ``host:port`` of each server's gRPC service.
    terms
        How they are asked.
    threads
        Of the face analyser (0: as many as cores).

    Raises
    ------
    BundleError
        The bundle is not whole, its face analyser cannot be loaded, or a server's address is none.
    """
    for url in urls:
        if not re.fullmatch(r"[^\s/]+:[0-9]+", url):
            raise BundleError(
                f"{url!r} is no address of a Triton server; write host:port, with the port of gRPC."
            )
    bundle = read_bundle(folder)
    verify(bundle)
    servers = Endpoints(urls, terms)
    atexit.register(servers.close)
    return assembled(
        bundle,
        TritonSegmenter(bundle, servers),
        TritonInpainter(bundle, servers),
        load_faces(bundle, threads),
    )


def inpainter_size_px(bundle: Bundle) -> int:
    """S of the inpainter, from its configuration: latents times the autoencoder's factor.

    Raises
    ------
    BundleError
        It has no such configuration.
    """
    folder = bundle.folder / bundle.inpainter["folder"]
    try:
        unet = json.loads((folder / "unet" / "config.json").read_text(encoding="utf-8"))
        vae = json.loads((folder / "vae" / "config.json").read_text(encoding="utf-8"))
        return int(unet["sample_size"]) << (len(vae["block_out_channels"]) - 1)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{folder}: the inpainter's size cannot be read from its configuration.") from error


def requests(number: int) -> list[slice]:
    """Pictures in portions that one request may carry."""
    return [slice(start, start + LARGEST_REQUEST) for start in range(0, number, LARGEST_REQUEST)]


def _require(images: Image, size_px: int) -> None:
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (size_px, size_px, 3):
        raise ValueError(f"images must be uint8 (N, {size_px}, {size_px}, 3), not {images.shape}")
