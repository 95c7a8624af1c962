"""A bundle put together: from a recipe, part by part, or fetched whole.

A recipe is a manifest without ``[files]`` whose parts say in ``[<part>.source]`` where they come from (conf/bundles).
What a source leaves empty, the site has to fill in. Each part's ``source.json`` tells what it was made from.
"""

import json
import shutil
import tarfile
import tempfile
import tomllib
import urllib.request
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from inference.bundle import MANIFEST, Bundle, BundleError, digest, read_bundle, seal, verify
from inference.signoff import UNSEEN, sign

RECIPE = Path("conf/bundles/sd2.toml")
"""The recipe of the production bundle."""
NOTES = "NOTES.md"
"""What people have to say of a bundle, in its folder; the model card ends with it."""


def draft(folder: Path, recipe: Path = RECIPE) -> Bundle:
    """The bundle in ``folder``, begun from ``recipe`` where there is none yet.

    Raises
    ------
    BundleError
        Neither is there, or it asks for what cannot be.
    """
    if not (folder / MANIFEST).is_file():
        try:
            text = recipe.read_text(encoding="utf-8")
        except OSError as error:
            raise BundleError(
                f"{recipe} cannot be read; name a recipe, such as conf/bundles/sd2.toml."
            ) from error
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MANIFEST).write_text(text, encoding="utf-8")
    return read_bundle(folder)


def put_segmenter(bundle: Bundle, checkpoint: Path, config: Path) -> Bundle:
    """Make a detectron2 checkpoint (``.pth``, ``.pkl``) with its ``config.yaml`` the segmenter of ``bundle``.

    Raises
    ------
    BundleError
        It is no semantic PointRend, its weights do not match name by name, or the manifest names other classes.
    """
    from inference.pointrend.config import ConfigError, PointRendConfig
    from inference.pointrend.model import PointRend
    from inference.pointrend.segmenter import PointRendSegmenter
    from inference.pointrend.weights import WeightsError, load_weights, write_weights

    try:
        model = PointRend(PointRendConfig.from_yaml(config))
        load_weights(model, checkpoint)
        with tempfile.TemporaryDirectory(dir=bundle.folder) as place:
            written = _made(Path(place) / "segmenter")
            shutil.copyfile(config, written / "config.yaml")
            write_weights(model, written / "model.safetensors", half=False)
            said = {
                "checkpoint": {checkpoint.name: digest(checkpoint)},
                "config": {config.name: digest(config)},
            }
            (written / "source.json").write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")
            PointRendSegmenter(written, bundle.classes, bundle.size_px)
            _replace(written, bundle.folder / bundle.segmenter["folder"])
    except (ConfigError, WeightsError) as error:
        raise BundleError(f"{checkpoint.name} cannot be the segmenter of {bundle.title}: {error}.") from error
    return seal(bundle.folder)


def take_segmenter(bundle: Bundle, out: Path) -> list[Path]:
    """Write the segmenter of ``bundle`` as detectron2 loads it: ``model_final.pth``, ``.pkl`` and ``config.yaml``.

    Raises
    ------
    BundleError
        The bundle is not whole.
    """
    from inference.pointrend.config import PointRendConfig
    from inference.pointrend.model import PointRend
    from inference.pointrend.weights import load_weights, write_checkpoint

    verify(bundle)
    folder = bundle.folder / bundle.segmenter["folder"]
    model = PointRend(PointRendConfig.from_yaml(folder / "config.yaml"))
    load_weights(model, folder / "model.safetensors")
    out.mkdir(parents=True, exist_ok=True)
    files = [out / "model_final.pth", out / "model_final.pkl"]
    for file in files:
        write_checkpoint(model, file)
    return [*files, Path(shutil.copyfile(folder / "config.yaml", out / "config.yaml"))]


def put_faces(bundle: Bundle, pack: Path) -> Bundle:
    """Make a folder of ONNX files, as InsightFace reads them, the face analyser of ``bundle``.

    Raises
    ------
    BundleError
        There are none.
    """
    files = sorted(pack.glob("*.onnx"))
    if not files:
        raise BundleError(f"{pack} holds no ONNX files; a face pack has a detector and a recogniser.")
    with tempfile.TemporaryDirectory(dir=bundle.folder) as place:
        written = _made(Path(place) / "faces")
        for file in [*files, *pack.glob("*.json")]:
            shutil.copyfile(file, written / file.name)
        said = {"pack": pack.name, "files": {file.name: digest(file) for file in files}}
        (written / "source.json").write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")
        _replace(written, bundle.folder / bundle.faces["folder"])
    return seal(bundle.folder)


def _replace(written: Path, folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
    written.rename(folder)


def build(recipe: Path, folder: Path) -> Bundle:
    """Put a whole bundle together as ``recipe`` says, in a folder that does not exist yet, and verify it.

    Paths in the recipe start at its own folder. The bundle says of itself that it was not evaluated yet.

    Raises
    ------
    BundleError
        The folder exists, the recipe leaves something open, or a part cannot be had or does not fit.
    """
    if folder.exists():
        raise BundleError(f"{folder} exists; build into a new folder.")
    try:
        raw = tomllib.loads(recipe.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise BundleError(f"{recipe} cannot be read as TOML ({error}).") from error
    wanted = {
        "segmenter": ("checkpoint", "config"),
        "inpainter": ("base",),
        "faces": ("folder", "licence"),
    }
    sources: dict[str, Mapping[str, Any]] = {part: raw.get(part, {}).get("source", {}) for part in wanted}
    for part, keys in wanted.items():
        empty = [key for key in keys if not sources[part].get(key)]
        if empty:
            raise BundleError(f"{recipe}: [{part}.source] {', '.join(empty)} is for the site to fill in.")
    here = recipe.resolve().parent
    with tempfile.TemporaryDirectory(dir=_made(folder.resolve().parent)) as place:
        bundle = draft(Path(place) / "bundle", recipe)
        segmenter = sources["segmenter"]
        put_segmenter(bundle, here / segmenter["checkpoint"], here / segmenter["config"])
        put_inpainter(bundle, sources["inpainter"], here)
        put_faces(bundle, here / sources["faces"]["folder"])
        for part, source in sources.items():
            _put_figures(bundle.folder / getattr(bundle, part)["folder"], source.get("figures", []), here)
        if raw.get("notes"):
            _copied(here / raw["notes"], bundle.folder / NOTES)
        verify(sign(bundle.folder, UNSEEN, date.today()))
        bundle.folder.rename(folder)
    return read_bundle(folder)


def _put_figures(folder: Path, files: Sequence[str], here: Path) -> None:
    """Keep what trainings found beside a part's weights, each under the name of the training's folder."""
    for name in files:
        file = (here / name).resolve()
        _copied(file, folder / f"{file.parent.name}-{file.name}")


def _copied(file: Path, target: Path) -> None:
    try:
        shutil.copyfile(file, target)
    except OSError as error:
        raise BundleError(f"{file}, which the recipe names, cannot be read.") from error


def put_inpainter(bundle: Bundle, source: Mapping[str, Any], here: Path = Path()) -> Bundle:
    """Make a diffusers folder or hub id the inpainter of ``bundle``; ``source`` as a recipe has it.

    Raises
    ------
    BundleError
        It cannot be had, is not the one pinned, or does not fit.
    """
    try:
        from inference.inpaint.importing import InpaintSource, import_inpaint
    except ImportError as error:
        raise BundleError(
            f"Importing needs {error.name}, which is not installed: anoskin-gateway[train]."
        ) from error
    local = here / source["base"]
    asked = InpaintSource(
        base=str(local) if local.is_dir() else source["base"],
        revision="" if local.is_dir() else source.get("revision", ""),
        files=source.get("files", {}),
        lora=here / source["lora"] if source.get("lora") else None,
        lora_scale=float(source.get("lora_scale", 1.0)),
    )
    import_inpaint(asked, bundle.folder / bundle.inpainter["folder"])
    return seal(bundle.folder)


def pack(bundle: Bundle, archive: Path) -> str:
    """Write a whole bundle as one ``.tar`` and return its SHA-256, which :func:`fetch` asks for.

    Raises
    ------
    BundleError
        The bundle is not whole.
    """
    verify(bundle)
    with tarfile.open(archive, "w") as tar:
        for name in sorted({MANIFEST, *bundle.files, *(p.name for p in bundle.folder.glob("*.md"))}):
            tar.add(bundle.folder / name, name)
    return digest(archive)


def fetch(where: str, sha256: str, folder: Path) -> Bundle:
    """Get a packed bundle from a file or an ``https`` address into a folder that does not exist yet, and verify it.

    Raises
    ------
    BundleError
        It cannot be had, is not the one asked for, or is not whole; nothing is left behind.
    """
    if folder.exists():
        raise BundleError(f"{folder} exists; fetch into a new folder.")
    if "://" in where and not where.startswith("https://"):
        raise BundleError(f"{where} is neither a file nor an https address; others are not asked.")
    with tempfile.TemporaryDirectory(dir=_made(folder.resolve().parent)) as place:
        archive, unpacked = Path(place) / "archive", Path(place) / "bundle"
        try:
            if where.startswith("https://"):
                with urllib.request.urlopen(where, timeout=60) as answer, archive.open("wb") as file:  # noqa: S310
                    shutil.copyfileobj(answer, file)
            else:
                shutil.copyfile(where, archive)
        except OSError as error:
            raise BundleError(f"{where} cannot be had: {error.strerror or error}.") from error
        if digest(archive) != sha256.lower():
            raise BundleError(f"{where} is not the archive asked for: its SHA-256 is {digest(archive)}.")
        try:
            with tarfile.open(archive) as tar:
                tar.extractall(unpacked, filter="data")
        except (tarfile.TarError, OSError) as error:
            raise BundleError(f"{where} cannot be unpacked: {error}.") from error
        verify(read_bundle(unpacked))
        unpacked.rename(folder)
    return read_bundle(folder)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
