"""The models of a bundle in this process."""

from collections.abc import Sequence
from pathlib import Path

from inference.bundle import BundleError, read_bundle, verify
from inference.choose import Choosy
from inference.contract import Models


def load_models(
    folder: Path, *, threads: int = 0, device: str = "auto", compiled: bool = False, words: Sequence[str] = ()
) -> Models:
    """Verify the bundle in ``folder`` and load its three models.

    Parameters
    ----------
    folder
        Of the bundle.
    threads
        Threads of each model on the CPU; 0: as many as there are cores.
    device, compiled
        As :func:`inference.execution.execution` takes them; the face analyser runs on the CPU.
    words
        Prompts that will be asked for beside those of the bundle.

    Raises
    ------
    BundleError
        The bundle is not whole, a part is of an unknown kind or does not fit what the manifest says of it, the
        packages to run it are not installed, the device is not there, or a prompt is too long.
    """
    bundle = read_bundle(folder)
    verify(bundle)
    for part, kind in (
        (bundle.segmenter, "pointrend"),
        (bundle.inpainter, "diffusers"),
        (bundle.faces, "insightface"),
    ):
        if part.get("kind") != kind:
            raise BundleError(
                f"{folder}: a part of kind {part.get('kind')!r} cannot be loaded; {kind!r} is needed."
            )
    try:
        import torch

        from inference.execution import ExecutionError, execution
        from inference.faces.analyser import InsightFaceAnalyser
        from inference.inpaint.inpainter import DiffusionInpainter
        from inference.pointrend.config import ConfigError
        from inference.pointrend.segmenter import PointRendSegmenter
        from inference.pointrend.weights import WeightsError
    except ImportError as error:
        raise BundleError(
            f"Models cannot run in this process: {error.name} is not installed; install anoskin-gateway[local]."
        ) from error
    if threads:
        torch.set_num_threads(threads)
    try:
        run = execution(device, compiled=compiled)
        segmenter = PointRendSegmenter(
            folder / bundle.segmenter["folder"], bundle.classes, bundle.size_px, run.device
        )
        painter = DiffusionInpainter(folder / bundle.inpainter["folder"], **bundle.sampling, execution=run)
        painter.read([*bundle.wordings(), *words])
    except (ConfigError, WeightsError, ExecutionError, ValueError) as error:
        raise BundleError(f"{folder} cannot be used here: {error}") from error
    faces = InsightFaceAnalyser(
        folder / bundle.faces["folder"], threads=threads, threshold=float(bundle.faces["threshold"])
    )
    candidates = int(bundle.inpainter.get("candidates", 1))
    return Models(
        name=bundle.title,
        demonstration=bundle.demonstration,
        segmenter=segmenter,
        inpainter=painter
        if candidates == 1
        else Choosy(painter, candidates, segmenter, faces, tuple(bundle.segmenter["features"])),
        faces=faces,
        roles=bundle.roles,
        features=tuple(bundle.segmenter["features"]),
        similarity_limit=float(bundle.faces["similarity_limit"]),
        prompts=bundle.prompts,
    )
