"""``gateway-models``: look after model bundles, prepare data, train parts. Parses and hands over; no logic."""

import argparse
import sys
from collections.abc import Callable, Sequence
from datetime import date
from importlib import import_module
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from inference import assemble
from inference.bundle import MANIFEST, Bundle, BundleError, read_bundle, seal, verify
from inference.data import DataError
from inference.evaluate import options
from inference.signoff import objection

TRAININGS = {
    "segment": "PointRend, which finds faces' features and lesions",
    "inpaint": "a given pipeline, on a site's photographs",
    "preferences": "a given pipeline, on which of two paintings is preferred",
    "inpaint-base": "the nano bundle's inpainter, from nothing",
    "faces": "the face detector and the recogniser",
    "classifier": "the judge of diseases for evaluate",
}
DATA = {
    "split": "choose train, validation and test by patient",
    "check": "find what is wrong, and draw a sheet to look at",
    "import-coco": "a manifest and index masks from a COCO file",
    "make-pairs": "paintings of every photograph, the best and the worst by a scorer",
    "make-synthetic": "portraits with painted lesions, to try with",
}
ENTRIES = {
    "segment": "inference.pointrend.train",
    "inpaint": "inference.inpaint.finetune",
    "preferences": "inference.inpaint.preferences",
    "inpaint-base": "inference.inpaint.command",
    "faces": "inference.faces.train",
    "classifier": "inference.evaluate.classifier",
}
"""The module whose ``main`` is each training."""

PARTS = frozenset({"import-pointrend", "import-inpaint", "import-faces", "export-pointrend", "pack"})
"""Commands after which the bundle may still lack something."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0 when it did what it says, 1 when a bundle is not whole, 2 for a wrong call."""
    parser = argparse.ArgumentParser(
        prog="gateway-models",
        description="Model bundles: put together, look after, serve, train; and what is learnt from.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    listing = commands.add_parser("list", help="show the bundles under a folder")
    listing.add_argument("folder", type=Path, nargs="?", default=Path("bundles"))
    for name, text in (
        ("verify", "compare a bundle's files with their digests"),
        ("seal", "write the digests of a bundle's files into its manifest"),
    ):
        commands.add_parser(name, help=text).add_argument("folder", type=Path, help="folder of the bundle")
    _add_assembling(commands)
    _add_triton(commands)
    for name, text, parts in (("train", "train a part", TRAININGS), ("data", "what is learnt from", DATA)):
        command = commands.add_parser(name, help=f"{text}: {', '.join(parts)}")
        command.add_argument("part", choices=parts, help="; ".join(f"{k}: {v}" for k, v in parts.items()))
        command.add_argument("rest", nargs=argparse.REMAINDER, help="its options; --help shows them")
    people = commands.add_parser("calibrate", help="thresholds of a bundle's recogniser on known people")
    people.add_argument("folder", type=Path, help="pictures, <person>_<anything>.jpg, two or more a person")
    people.add_argument("--bundle", type=Path, default=Path("bundles/nano"), help="default: %(default)s")
    people.add_argument(
        "--out", type=Path, default=Path("calibration"), help="folder for figures and DET plot"
    )
    options.add(commands.add_parser("evaluate", help="compare anonymisation methods, and attack them"))
    given = parser.parse_args(argv)
    try:
        if given.command in COMMANDS:
            return COMMANDS[given.command](given)
        bundle = _whole(given)
        verify(bundle)
    except (BundleError, DataError, FloatingPointError) as error:
        print(f"gateway-models: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        told = f"{error.filename}: {error.strerror}" if error.filename and error.strerror else error
        print(f"gateway-models: {told}", file=sys.stderr)
        return 1
    print(f"{bundle.title}: {len(bundle.files)} files, each as listed. Licence: {bundle.licence}.")
    against = objection(bundle)
    print(f"Not signed off: {against}." if against else "Nothing is said against its use.")
    return 0


def _calibrate(given: argparse.Namespace) -> int:
    from inference.faces.figure import NothingToCalibrate, run
    from inference.local import load_faces

    bundle = read_bundle(given.bundle)
    verify(bundle)
    try:
        found = run(given.folder, load_faces(bundle), given.out)
    except ImportError as error:
        raise BundleError(
            f"The plot needs {error.name}, which is not installed: anoskin-gateway[train]."
        ) from error
    except NothingToCalibrate as error:
        raise BundleError(str(error)) from error
    table = Table("false accept rate", "[faces] similarity_limit", "recognised", title=str(given.out))
    for point in found.points:
        table.add_row(
            f"{point.false_accept_rate:g}", f"{point.threshold:.3f}", f"{point.true_accept_rate:.3f}"
        )
    Console().print(table)
    return 0


def _add_assembling(commands: Any) -> None:
    """The commands that put a bundle together."""
    build = commands.add_parser("build", help="put a bundle together as a recipe says, and sign it off")
    build.add_argument(
        "recipe", type=Path, help="recipe, such as conf/bundles/sd2.toml with its sources filled in"
    )
    build.add_argument("folder", type=Path, help="folder to make")
    sign = commands.add_parser("sign-off", help="evaluate a bundle, write its model card, and sign it off")
    sign.add_argument("folder", type=Path, help="folder of the bundle")
    for one in (build, sign):
        one.add_argument("--data", type=Path, required=one is sign, metavar="MANIFEST",
                         help="photographs whose split test no training saw")  # fmt: skip
        one.add_argument("--before", type=Path, metavar="BUNDLE", help="the bundle it began with, to compare")
        one.add_argument(
            "--judges", type=Path, nargs="+", default=[], metavar="PACK", help="face packs no bundle uses"
        )
    pack = commands.add_parser("pack", help="write a whole bundle as one file, and its SHA-256")
    pack.add_argument("folder", type=Path, help="folder of the bundle")
    pack.add_argument("archive", type=Path, help="file to write (.tar)")
    fetch = commands.add_parser("fetch", help="get a packed bundle from a file or an https address")
    fetch.add_argument("where", help="file or address")
    fetch.add_argument("folder", type=Path, help="folder to make")
    fetch.add_argument("--sha256", required=True, help="digest of the packed bundle, as pack printed it")
    pointrend = commands.add_parser(
        "import-pointrend", help="make a detectron2 checkpoint a bundle's segmenter"
    )
    pointrend.add_argument("checkpoint", type=Path, help="model_final.pth or .pkl")
    pointrend.add_argument(
        "config", type=Path, help="config.yaml as detectron2 wrote it beside the checkpoint"
    )
    inpaint = commands.add_parser("import-inpaint", help="make SD 2 inpainting weights a bundle's inpainter")
    inpaint.add_argument(
        "base", metavar="FOLDER_OR_HUB_ID", help="diffusers folder, or OWNER/NAME on the model hub"
    )
    inpaint.add_argument("--revision", default="", help="commit on the hub, 40 hexadecimal digits")
    inpaint.add_argument("--lora", type=Path, help="folder of an adapter of peft or diffusers to fuse")
    inpaint.add_argument("--lora-scale", type=float, default=1.0, help="how strongly (default: 1.0)")
    faces = commands.add_parser("import-faces", help="make a folder of ONNX files a bundle's face analyser")
    faces.add_argument("pack", type=Path, help="folder with detector and recogniser, as InsightFace reads it")
    for one in (pointrend, inpaint, faces):
        one.add_argument(
            "--bundle", type=Path, required=True, help="folder of the bundle; made where missing"
        )
        one.add_argument(
            "--recipe",
            type=Path,
            default=assemble.RECIPE,
            help="recipe a new bundle begins with (default: %(default)s)",
        )
    export = commands.add_parser("export-pointrend", help="write a bundle's segmenter as detectron2 loads it")
    export.add_argument("folder", type=Path, help="folder of the bundle")
    export.add_argument("out", type=Path, help="folder for model_final.pth, model_final.pkl and config.yaml")


def _part(given: argparse.Namespace) -> int:
    if given.command == "export-pointrend":
        for file in assemble.take_segmenter(read_bundle(given.folder), given.out):
            print(file)
        return 0
    if given.command == "pack":
        print(f"{assemble.pack(read_bundle(given.folder), given.archive)}  {given.archive}")
        return 0
    bundle = assemble.draft(given.bundle, given.recipe)
    if given.command == "import-pointrend":
        bundle = assemble.put_segmenter(bundle, given.checkpoint, given.config)
    elif given.command == "import-faces":
        bundle = assemble.put_faces(bundle, given.pack)
    else:
        asked = ("base", "revision", "lora", "lora_scale")
        bundle = assemble.put_inpainter(bundle, {key: getattr(given, key) for key in asked})
    print(f"{bundle.folder}: imported, {len(bundle.files)} files listed.")
    return 0


def _signed(given: argparse.Namespace) -> int:
    """Put a bundle together where that is asked, and sign it off; 1 where it is not signed."""
    try:
        from inference.evaluate import card, signing
    except ImportError as error:
        raise BundleError(
            f"Evaluating needs {error.name}, which is not installed: anoskin-gateway[evaluate]."
        ) from error
    named = (given.data, given.before, given.judges)
    if given.command == "build":
        asked = signing.asked_by_recipe(given.recipe, *named)
        assemble.build(given.recipe, given.folder)
    else:
        asked = signing.asked_of(read_bundle(given.folder), *named)
    reason = signing.sign_off(given.folder, asked, date.today())
    print((given.folder / card.NAME).read_text(encoding="utf-8"))
    if reason:
        print(f"gateway-models: {given.folder} is not signed off: {reason}.", file=sys.stderr)
    return 1 if reason else 0


def _whole(given: argparse.Namespace) -> Bundle:
    if given.command == "fetch":
        return assemble.fetch(given.where, given.sha256, given.folder)
    return seal(given.folder) if given.command == "seal" else read_bundle(given.folder)


def _add_triton(commands: Any) -> None:
    """The commands that serve a bundle."""
    repository = Path("model_repository")
    export = commands.add_parser("export", help="put a bundle's parts into a model repository of Triton")
    export.add_argument("folder", type=Path, help="folder of the bundle")
    export.add_argument("--out", type=Path, default=repository, metavar="DIR", help="default: %(default)s")
    export.add_argument(
        "--templates",
        type=Path,
        default=repository,
        metavar="DIR",
        help="where DIR gets its config.pbtxt and model.py from, if it has none; default: %(default)s",
    )
    triton = commands.add_parser("triton", help="run a Triton server on this machine, for trying and testing")
    triton.add_argument(
        "--repository", type=Path, default=repository, metavar="DIR", help="default: %(default)s"
    )
    for name, port in (("grpc", 8001), ("http", 8000), ("metrics", 8002)):
        triton.add_argument(
            f"--{name}-port", type=int, default=port, metavar="PORT", help="default: %(default)s"
        )


def _export(given: argparse.Namespace) -> int:
    from inference.export import export

    for written in export(given.folder, given.out, given.templates):
        print(written)
    return 0


def _triton(given: argparse.Namespace) -> int:
    from inference.tritonserver import Ports, Server, ServerError, serve

    try:
        return serve(Server(given.repository, Ports(given.grpc_port, given.http_port, given.metrics_port)))
    except ServerError as error:
        print(f"gateway-models: {error}", file=sys.stderr)
        return 1


def _list(given: argparse.Namespace) -> int:
    folder: Path = given.folder
    manifests = sorted(folder.glob(f"*/{MANIFEST}"))
    if not manifests:
        raise BundleError(f"{folder} holds no bundles; name the folder that bundles lie in.")
    table = Table("bundle", "for", "licence", "files", "MB", "against its use", title=str(folder))
    unread = []
    for manifest in manifests:
        try:
            bundle = read_bundle(manifest.parent)
        except BundleError as error:
            unread.append(error)
            continue
        files = [bundle.folder / name for name in bundle.files]
        size = sum(file.stat().st_size for file in files if file.is_file()) / 1e6
        purpose = "demonstration" if bundle.demonstration else "production"
        facts = (bundle.title, purpose, bundle.licence, str(len(bundle.files)), f"{size:.1f}")
        table.add_row(*facts, objection(bundle))
    Console().print(table)
    for said in unread:
        print(f"gateway-models: {said}", file=sys.stderr)
    return 1 if unread else 0


def _learning(given: argparse.Namespace) -> int:
    judging = given.command == "evaluate" or given.part == "classifier"
    try:
        if given.command == "evaluate":
            return int(import_module("inference.evaluate.command").run(given))
        if given.command == "data":
            return int(import_module("inference.data.command").main([given.part, *given.rest]))
        return int(import_module(ENTRIES[given.part]).main(given.rest))
    except ImportError as error:
        raise BundleError(
            f"This needs {error.name}, which is not installed: "
            f"anoskin-gateway[{'evaluate' if judging else 'train'}]."
        ) from error


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "list": _list,
    "export": _export,
    "triton": _triton,
    "calibrate": _calibrate,
    "build": _signed,
    "sign-off": _signed,
    **dict.fromkeys(("train", "data", "evaluate"), _learning),
    **dict.fromkeys(PARTS, _part),
}
"""What does each command; the others end with a bundle to verify."""


if __name__ == "__main__":
    sys.exit(main())
