"""The options of ``gateway-models evaluate``; importing them loads no model."""

import argparse
from pathlib import Path

METHODS = (
    "none", "blurring", "black-bar", "masking", "pixelation", "k-same", "deepprivacy", "anonfaces",
    "sd2", "dreamlike", "sdxl", "anoskin", "anoskin-once",
    "anoskin-without-ffe", "anoskin-without-diff", "anoskin-without-simpo",
)  # fmt: skip
"""All methods, in the order of the paper's table."""

ABLATIONS = METHODS[-3:]
"""Painted once, like ``anoskin-once``: painting again until nobody is recognised would hide what training does."""


def add(parser: argparse.ArgumentParser) -> None:
    """Add every option to ``parser``."""
    add = parser.add_argument
    add("--methods", nargs="+", required=True, metavar="METHOD", help=", ".join(METHODS))
    add("--data", type=Path, required=True, help="manifest.csv or its folder")
    add("--out", type=Path, required=True, help="folder for results and report; results are kept")
    add("--split", default="test", help="photographs to anonymise (default: %(default)s)")
    add(
        "--one-each",
        action="store_true",
        help="anonymise one photograph of each patient; all are in the gallery",
    )
    add(
        "--bundle",
        type=Path,
        default=Path("bundles/nano"),
        help="bundle of the method anoskin (default: %(default)s)",
    )
    add("--weights", nargs="*", default=[], metavar="METHOD=FOLDER", help="weights of a method")
    add("--classifier", type=Path, help="judge of diseases, from gateway-models train classifier")
    add("--judges", type=Path, nargs="+", default=[], metavar="PACK",
        help="face packs that no method uses (default: the bundle's own, which its method does use)")  # fmt: skip
    add("--metric-weights", type=Path, help="folder with the weights of LPIPS and FID")
    add("--ratings", type=Path, help="CSV with method, image, rating (1 to 5)")
    add("--attack", nargs="*", metavar="METHOD", help="attack these methods (without names: all but none)")
    add("--attack-steps", type=int, default=600, help="of the inversion (default: %(default)s)")
    add("--attack-patients", type=int, default=400,
        help="patients of the other splits that attackers learn from, at most (default: %(default)s)")  # fmt: skip
    add("--threads", type=int, default=1, help="threads of each model (default: %(default)s)")
