"""``gateway-models``: look after model bundles, and train the parts of one. Parses and hands over; no logic."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from inference.bundle import BundleError, read_bundle, seal, verify

TRAININGS = {
    "segment": "PointRend, which finds faces' features and lesions",
    "inpaint": "the autoencoder and the UNet that paint new faces",
    "faces": "the face detector and the recogniser",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0 when it did what it says, 1 when a bundle is not whole, 2 for a wrong call."""
    parser = argparse.ArgumentParser(
        prog="gateway-models", description="Model bundles: list, verify, seal, train."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    listing = commands.add_parser("list", help="show the bundles under a folder")
    listing.add_argument("folder", type=Path, nargs="?", default=Path("bundles"))
    for name, text in (
        ("verify", "compare a bundle's files with their digests"),
        ("seal", "write the digests of a bundle's files into its manifest"),
    ):
        commands.add_parser(name, help=text).add_argument("folder", type=Path, help="folder of the bundle")
    train = commands.add_parser("train", help="train a part: " + ", ".join(TRAININGS))
    train.add_argument("part", choices=TRAININGS, help="; ".join(f"{k}: {v}" for k, v in TRAININGS.items()))
    train.add_argument("rest", nargs=argparse.REMAINDER, help="options of that training; --help shows them")
    given = parser.parse_args(argv)
    try:
        if given.command == "train":
            return _train(given.part, given.rest)
        if given.command == "list":
            return _list(given.folder)
        bundle = seal(given.folder) if given.command == "seal" else read_bundle(given.folder)
        verify(bundle)
    except BundleError as error:
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


def _train(part: str, rest: Sequence[str]) -> int:
    try:
        if part == "segment":
            from inference.pointrend.train import main as segment

            return segment(rest)
        if part == "inpaint":
            from inference.inpaint.command import main as inpaint

            return inpaint(rest)
        from inference.faces.train import main as faces

        return faces(rest)
    except ImportError as error:
        raise BundleError(
            f"Training needs {error.name}, which is not installed: anoskin-gateway[train]."
        ) from error


if __name__ == "__main__":
    sys.exit(main())
