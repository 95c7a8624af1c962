"""The models of a bundle in this process."""

from pathlib import Path

from inference.bundle import BundleError, read_bundle, verify
from inference.choose import Choosy
from inference.contract import Models


def load_models(folder: Path, *, threads: int = 0) -> Models:
    """Verify the bundle in ``folder`` and load its three models; ``threads`` limits each (0: as many as cores).

    Raises
    ------
    BundleError
        The bundle is not whole, a part is of an unknown kind, or the packages to run it are not installed.
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

        from inference.faces.analyser import InsightFaceAnalyser
        from inference.inpaint.inpainter import DiffusionInpainter
        from inference.pointrend.segmenter import PointRendSegmenter
    except ImportError as error:
        raise BundleError(
            f"Models cannot run in this process: {error.name} is not installed; install anoskin-gateway[local]."
        ) from error
    if threads:
        torch.set_num_threads(threads)
    segmenter = PointRendSegmenter(folder / bundle.segmenter["folder"])
    faces = InsightFaceAnalyser(
        folder / bundle.faces["folder"], threads=threads, threshold=float(bundle.faces["threshold"])
    )
    painter = DiffusionInpainter(
        folder / bundle.inpainter["folder"],
        steps=int(bundle.inpainter["steps"]),
        guidance=float(bundle.inpainter["guidance"]),
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
