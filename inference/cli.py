"""``gateway-models``: look after model bundles, prepare data, train parts. Parses and hands over; no logic."""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from rich.console import Console
from rich.table import Table

from inference.bundle import BundleError, read_bundle, seal, verify
from inference.data import DataError

TRAININGS = {
    "segment": "PointRend, which finds faces' features and lesions",
    "inpaint": "the autoencoder and the UNet that paint new faces",
    "faces": "the face detector and the recogniser",
}
DATA = {
    "split": "choose train, validation and test by patient",
    "make-synthetic": "portraits with painted lesions, to try with",
}
ENTRIES = {
    "segment": "inference.pointrend.train",
    "inpaint": "inference.inpaint.command",
    "faces": "inference.faces.train",
}
"""The module whose ``main`` is each training."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0 when it did what it says, 1 when a bundle is not whole, 2 for a wrong call."""
    parser = argparse.ArgumentParser(
        prog="gateway-models",
        description="Model bundles: list, verify, seal, train; and what is learnt from.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    listing = commands.add_parser("list", help="show the bundles under a folder")
    listing.add_argument("folder", type=Path, nargs="?", default=Path("bundles"))
    for name, text in (
        ("verify", "compare a bundle's files with their digests"),
        ("seal", "write the digests of a bundle's files into its manifest"),
    ):
        commands.add_parser(name, help=text).add_argument("folder", type=Path, help="folder of the bundle")
    for name, text, parts in (("train", "train a part", TRAININGS), ("data", "what is learnt from", DATA)):
        command = commands.add_parser(name, help=f"{text}: {', '.join(parts)}")
        command.add_argument("part", choices=parts, help="; ".join(f"{k}: {v}" for k, v in parts.items()))
        command.add_argument("rest", nargs=argparse.REMAINDER, help="its options; --help shows them")
    given = parser.parse_args(argv)
    try:
        if given.command in {"train", "data"}:
            return _learning(given.command, given.part, given.rest)
        if given.command == "list":
            return _list(given.folder)
        bundle = seal(given.folder) if given.command == "seal" else read_bundle(given.folder)
        verify(bundle)
    except (BundleError, DataError) as error:
        print(f"gateway-models: {error}", file=sys.stderr)
        return 1
    print(f"{bundle.title}: {len(bundle.files)} files, each as listed. Licence: {bundle.licence}.")
    return 0


def _list(folder: Path) -> int:
    table = Table("bundle", "for", "licence", "files", "MB", title=str(folder))
    for manifest in sorted(folder.glob("*/bundle.toml")):
        bundle = read_bundle(manifest.parent)
        size = sum((bundle.folder / name).stat().st_size for name in bundle.files) / 1e6
        purpose = "demonstration" if bundle.demonstration else "production"
        table.add_row(bundle.title, purpose, bundle.licence, str(len(bundle.files)), f"{size:.1f}")
    Console().print(table)
    return 0


def _learning(command: str, part: str, rest: Sequence[str]) -> int:
    try:
        if command == "data":
            return int(import_module("inference.data.command").main([part, *rest]))
        return int(import_module(ENTRIES[part]).main(rest))
    except ImportError as error:
        raise BundleError(
            f"This needs {error.name}, which is not installed: anoskin-gateway[train]."
        ) from error


if __name__ == "__main__":
    sys.exit(main())
