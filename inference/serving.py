"""What a model on a Triton server does with its requests; ``model_repository/*/1/model.py`` only hands over.

A version's folder holds ``bundle/``, as :mod:`inference.export` writes it: the manifest and the files of one part,
which are compared with their digests before anything is loaded. Tensors are those of :mod:`inference.wire`.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from inference.bundle import part_digest, read_bundle, verify
from inference.contract import Inpainter, Segmenter
from inference.export import FOLDER
from inference.local import load_inpainter, load_segmenter
from inference.wire import BUNDLE, PARTS, POINTREND, unpack

SAMPLING: Mapping[str, Callable[[str], Any]] = {
    "steps": int,
    "guidance": float,
    "scheduler": str,
    "reuse": int,
}
"""What a model's configuration may set in place of the bundle's ``[inpainter]``."""
Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Served:
    """One loaded part of a bundle.

    Attributes
    ----------
    digest
        Of the part; a request that asks for another one is not answered.
    inputs, output
        Names of its tensors.
    run
        Arrays of all inputs, pictures first, to the array of the output.
    """

    digest: str
    inputs: tuple[str, ...]
    output: str
    run: Callable[[Arrays], NDArray[Any]]


def load(arguments: Mapping[str, str]) -> Served:
    """The part that a model of the repository serves, loaded and asked once: the first request need not wait for that.

    Parameters
    ----------
    arguments
        As Triton gives them to ``initialize``. The model's configuration may set parameters: those of
        :data:`SAMPLING` other than the bundle's, ``compile`` (``true``) and ``threads`` (0: as many as cores).

    Raises
    ------
    inference.bundle.BundleError
        The part is not whole or cannot be loaded.
    """
    part = PARTS[arguments["model_name"]]
    bundle = read_bundle(Path(arguments["model_repository"]) / arguments["model_version"] / FOLDER)
    verify(bundle, part)
    stated = json.loads(arguments["model_config"]).get("parameters", {})
    parameters = {name: value["string_value"] for name, value in stated.items() if value["string_value"]}
    threads = int(parameters.get("threads", 0))
    gpu = arguments["model_instance_kind"] == "GPU"
    device = f"cuda:{arguments['model_instance_device_id']}" if gpu else "cpu"
    digest = part_digest(bundle, part)
    if arguments["model_name"] == POINTREND:
        return _segmenter(load_segmenter(bundle, threads=threads, device=device), digest)
    sampling = {name: kind(parameters[name]) for name, kind in SAMPLING.items() if name in parameters}
    compiled = parameters.get("compile") == "true"
    inpainter = load_inpainter(bundle, threads=threads, device=device, compiled=compiled, **sampling)
    inpainter.read(bundle.wordings())
    if not compiled:  # else it has done so
        inpainter.warm_up()
    return _inpainter(inpainter, digest, device)


def _segmenter(segmenter: Segmenter, digest: str) -> Served:
    side = segmenter.size_px
    segmenter.segment(np.zeros((1, side, side, 3), np.uint8))
    return Served(digest, ("images",), "probabilities", lambda arrays: segmenter.segment(arrays["images"]))


def _inpainter(inpainter: Inpainter, digest: str, device: str) -> Served:
    def paint(arrays: Arrays) -> NDArray[Any]:
        hide = arrays["hide"].astype(np.bool_)
        if not hide.any():  # the gateway's question whether this model is alive, its device included
            return np.asarray(torch.from_numpy(arrays["images"]).to(device).cpu().numpy())
        seeds = [int(seed) for seed in arrays["seeds"][:, 0]]
        return inpainter.inpaint(arrays["images"], hide, unpack(arrays["prompts"]), seeds)

    return Served(digest, ("images", "hide", "prompts", "seeds"), "painted", paint)


def respond(backend: Any, served: Served, requests: Sequence[Any]) -> list[Any]:
    """Triton's responses to its requests, in their order; ``backend`` is ``triton_python_backend_utils``.

    What the model cannot take or gives no numbers for is answered as an invalid argument, to that request alone;
    everything else escapes, and Triton reports it to all of them.
    """
    answers: dict[int, Any] = {}
    asked: dict[int, Arrays] = {}
    for place, request in enumerate(requests):
        if json.loads(request.parameters() or "{}").get(BUNDLE) == served.digest:
            asked[place] = {name: _array(backend, request, name) for name in served.inputs}
        else:
            text = "this server serves another bundle than the gateway is set to"
            answers[place] = backend.TritonError(text, backend.TritonError.NOT_FOUND)
    if asked:
        try:
            answers |= zip(asked, _together(served, list(asked.values())), strict=True)
        except (ValueError, FloatingPointError):
            answers |= {place: _alone(backend, served, arrays) for place, arrays in asked.items()}
    return [_response(backend, served, answers[place]) for place in range(len(requests))]


def _array(backend: Any, request: Any, name: str) -> NDArray[Any]:
    """An input of a request; by DLPack, because ``as_numpy`` gives wrong values under numpy 2."""
    tensor: torch.Tensor = torch.utils.dlpack.from_dlpack(backend.get_input_tensor_by_name(request, name))
    return np.asarray(tensor.cpu().numpy())


def _together(served: Served, asked: Sequence[Arrays]) -> list[NDArray[Any]]:
    """The answers to several requests, computed as one batch."""
    joined = {name: np.concatenate([arrays[name] for arrays in asked]) for name in served.inputs}
    ends = np.cumsum([len(arrays["images"]) for arrays in asked])[:-1]
    return np.split(served.run(joined), ends)


def _alone(backend: Any, served: Served, arrays: Arrays) -> Any:
    try:
        return served.run(arrays)
    except (ValueError, FloatingPointError) as error:
        return backend.TritonError(f"the model cannot take this: {error}", backend.TritonError.INVALID_ARG)


def _response(backend: Any, served: Served, answer: Any) -> Any:
    if isinstance(answer, backend.TritonError):
        return backend.InferenceResponse(output_tensors=[], error=answer)
    tensor = torch.from_numpy(np.ascontiguousarray(answer))
    return backend.InferenceResponse([backend.Tensor.from_dlpack(served.output, tensor)])
