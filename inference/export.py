"""A bundle's parts put where a Triton server looks for them: ``model_repository/*/1/bundle/``."""

import shutil
from pathlib import Path

from inference.bundle import MANIFEST, BundleError, part_files, read_bundle, verify
from inference.wire import PARTS

VERSION = "1"
FOLDER = "bundle"


def export(bundle_folder: Path, repository: Path, templates: Path) -> list[Path]:
    """Put the segmenter and the inpainter of a bundle into a model repository; the folders they lie in.

    The models' ``config.pbtxt`` and ``model.py`` are copied from ``templates`` where the repository has none; those
    that are there stay as the site adapted them.

    Raises
    ------
    BundleError
        The bundle is not whole, or a model has no ``config.pbtxt`` or ``model.py``.
    """
    bundle = read_bundle(bundle_folder)
    verify(bundle)
    written = []
    for model, part in PARTS.items():
        for name in ("config.pbtxt", f"{VERSION}/model.py"):
            source, target = templates / model / name, repository / model / name
            if target.exists():
                continue
            if not source.is_file():
                raise BundleError(
                    f"{source} is not there; --templates names the project's folder model_repository."
                )
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
        folder = repository / model / VERSION / FOLDER
        fresh = folder.with_name(f"{FOLDER}.new")
        shutil.rmtree(fresh, ignore_errors=True)
        for name in part_files(bundle, part):
            (fresh / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(bundle_folder / name, fresh / name)
        shutil.copyfile(bundle_folder / MANIFEST, fresh / MANIFEST)
        verify(read_bundle(fresh), part)
        shutil.rmtree(folder, ignore_errors=True)
        fresh.rename(folder)
        written.append(folder)
    return written
