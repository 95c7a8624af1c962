"""The models of a bundle in this process."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inference.bundle import Bundle, BundleError, read_bundle, verify
from inference.choose import Choosy
from inference.contract import CLEARLY_OTHERS, FaceAnalyser, Inpainter, Models, Segmenter, Verifier
from inference.signoff import objection

if TYPE_CHECKING:
    from inference.inpaint.inpainter import DiffusionInpainter


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
    faces = load_faces(bundle, threads)
    segmenter = load_segmenter(bundle, threads=threads, device=device)
    inpainter = load_inpainter(bundle, threads=threads, device=device, compiled=compiled)
    with _usable(bundle):
        inpainter.read([*bundle.wordings(), *words])
    return assembled(bundle, segmenter, inpainter, faces)


def assembled(bundle: Bundle, segmenter: Segmenter, painter: Inpainter, faces: FaceAnalyser) -> Models:
    """The three models with what their bundle says about using them."""
    candidates = int(bundle.inpainter.get("candidates", 1))
    features = tuple(bundle.segmenter["features"])
    inpainter = Choosy(painter, candidates, segmenter, faces, features) if candidates > 1 else painter
    return Models(
        name=bundle.title,
        demonstration=bundle.demonstration,
        segmenter=segmenter,
        inpainter=inpainter,
        faces=faces,
        roles=bundle.roles,
        features=features,
        similarity_limit=float(bundle.faces["similarity_limit"]),
        prompts=bundle.prompts,
        second=load_second(bundle),
        similarity_margin=float(bundle.faces.get("similarity_margin", CLEARLY_OTHERS)),
        objection=objection(bundle),
    )


def load_segmenter(bundle: Bundle, *, threads: int = 0, device: str = "auto") -> Segmenter:
    """The segmenter of a verified bundle; parameters and errors as for :func:`load_models`."""
    folder = _folder(bundle, "segmenter", "pointrend")
    with _usable(bundle):
        import torch

        from inference.execution import execution
        from inference.pointrend.segmenter import PointRendSegmenter

        if threads:
            torch.set_num_threads(threads)
        return PointRendSegmenter(folder, bundle.classes, bundle.size_px, execution(device).device)


def load_inpainter(
    bundle: Bundle, *, threads: int = 0, device: str = "auto", compiled: bool = False, **sampling: Any
) -> "DiffusionInpainter":
    """The inpainter of a verified bundle; parameters and errors as for :func:`load_models`.

    ``sampling`` replaces what :attr:`inference.bundle.Bundle.sampling` says.
    """
    folder = _folder(bundle, "inpainter", "diffusers")
    with _usable(bundle):
        import torch

        from inference.execution import execution
        from inference.inpaint.inpainter import DiffusionInpainter

        if threads:
            torch.set_num_threads(threads)
        run = execution(device, compiled=compiled)
        return DiffusionInpainter(folder, **{**bundle.sampling, **sampling}, execution=run)


def load_faces(bundle: Bundle, threads: int = 0) -> FaceAnalyser:
    """The face analyser of a verified bundle, on the CPU of this process; errors as for :func:`load_models`."""
    folder = _folder(bundle, "faces", "insightface")
    try:
        from inference.faces.analyser import InsightFaceAnalyser
    except ImportError as error:
        raise BundleError(
            f"Faces cannot be searched: {error.name} is not installed; install anoskin-gateway[treat]."
        ) from error
    threshold = float(bundle.faces["threshold"])
    doubt = float(bundle.faces.get("doubt", 0.6 * threshold))
    looks = int(bundle.faces.get("looks", 1))
    return InsightFaceAnalyser(folder, threads=threads, threshold=threshold, doubt=doubt, looks=looks)


def load_second(bundle: Bundle, threads: int = 0) -> Verifier | None:
    """The second verifier of a verified bundle, where it has one; errors as for :func:`load_models`."""
    table = bundle.faces.get("second")
    if table is None:
        return None
    from inference.faces.analyser import InsightFaceAnalyser

    looks = int(table.get("looks", 1))
    analyser = InsightFaceAnalyser(bundle.folder / str(table["folder"]), threads=threads, looks=looks)
    margin = float(table.get("similarity_margin", CLEARLY_OTHERS))
    return Verifier(analyser, float(table["similarity_limit"]), margin)


def _folder(bundle: Bundle, part: str, kind: str) -> Path:
    """Where a part lies, which has to be of this kind."""
    table = getattr(bundle, part)
    if table.get("kind") != kind:
        raise BundleError(
            f"{bundle.folder}: a part of kind {table.get('kind')!r} cannot be loaded; {kind!r} is needed."
        )
    return bundle.folder / str(table["folder"])


@contextmanager
def _usable(bundle: Bundle) -> Iterator[None]:
    """What keeps a part from being loaded, as one sentence."""
    try:
        yield
    except ImportError as error:
        raise BundleError(
            f"Models cannot run in this process: {error.name} is not installed; install anoskin-gateway[local]."
        ) from error
    except (RuntimeError, ValueError) as error:
        raise BundleError(f"{bundle.folder} cannot be used here: {error}") from error
