"""``gateway-models data``: what a site learns from is looked through, split, brought into one form, made up."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from rich.progress import Progress

from inference.contract import Image, Models
from inference.data import DataError, check, coco, manifest, pairs, patients, scorer, synthetic

HELD_BACK = "held-back"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one of the commands; 0 when it did what it says.

    Raises
    ------
    inference.data.DataError
        The data cannot be used; the message says why.
    """
    parser = argparse.ArgumentParser(prog="gateway-models data", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _check_options(commands.add_parser("check", help="find what is wrong, and draw a sheet to look at"))
    _import_options(commands.add_parser("import-coco", help="a manifest and index masks from a COCO file"))
    _split_options(commands.add_parser("split", help="choose train, validation and test by patient"))
    _pairs_options(
        commands.add_parser("make-pairs", help="paintings of every photograph, the best and the worst")
    )
    _synthetic_options(
        commands.add_parser("make-synthetic", help="portraits with painted lesions, to try with")
    )
    given = parser.parse_args(argv)
    return int(given.run(given))


def _check_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "data", type=Path, help="manifest.csv, pairs.csv or pairs.jsonl, or a folder with one of them"
    )
    parser.add_argument("--sheet", type=Path, help="picture to draw (default: sheet.jpg beside the manifest)")
    parser.set_defaults(run=_check)


def _check(given: argparse.Namespace) -> int:
    of_pairs = pairs.is_list(given.data)
    with Progress() as bar:
        task = bar.add_task("looked at", total=None)
        if of_pairs:
            listed, findings = pairs.check(given.data, lambda: bar.advance(task))
            counts = [f"{len(listed)} pairs"]
        else:
            rows, findings = check.check(given.data, lambda: bar.advance(task))
            counts = [
                f"{split}: " + ", ".join(f"{count} {disease}" for disease, count in sorted(found.items()))
                for split, found in sorted(check.summary(rows).items())
            ]
    for finding in findings:
        print(f"{'wrong' if finding.fatal else 'look '}  {finding.where}: {finding.what}")
    if not of_pairs:
        file = given.sheet or manifest.manifest_file(given.data).parent / "sheet.jpg"
        if not _written(file, check.sheet(rows, findings)):
            raise DataError(
                f"{file} cannot be written; give --sheet a .jpg or .png in a folder that is there."
            )
        counts.append(f"sheet: {file}")
    fatal = sum(finding.fatal for finding in findings)
    print("\n".join([*counts, f"{fatal} to put right, {len(findings) - fatal} to look at"]))
    return 1 if fatal else 0


def _written(file: Path, picture: Image) -> bool:
    try:
        return bool(cv2.imwrite(str(file), np.ascontiguousarray(picture[..., ::-1])))
    except cv2.error:  # a suffix that it does not know
        return False


def _import_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("annotations", type=Path, help="COCO's JSON file")
    parser.add_argument("--images", type=Path, help="folder of the pictures (default: the JSON file's)")
    parser.add_argument("--out", type=Path, required=True, help="folder for masks/ and manifest.csv")
    parser.add_argument("--patients", type=Path, help=f"CSV with columns {', '.join(coco.WHO)}")
    parser.add_argument("--class", dest="classes", action="append", default=[], metavar="CATEGORY=CLASS",
                        help="what a category is here, such as 'plaque=lesion'")  # fmt: skip
    parser.set_defaults(run=_import)


def _import(given: argparse.Namespace) -> int:
    named = dict(one.lower().split("=", 1) for one in given.classes if "=" in one)
    if len(named) != len(given.classes):
        raise DataError("--class is given as CATEGORY=CLASS, such as 'plaque=lesion'.")
    images = given.images or given.annotations.parent
    rows = coco.import_coco(given.annotations, images, given.out, given.patients, named)
    print(
        f"{len(rows)} photographs of {len({row.patient for row in rows})} patients: {given.out / manifest.NAME}"
    )
    return 0


def _split_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", type=Path, help="manifest.csv or its folder; its column split is filled")
    parser.add_argument(
        "--shares", default="8:1:1", help="train:validation:test, or train:test (default 8:1:1)"
    )
    parser.add_argument("--seed", type=int, default=0, help="another one gives another choice")
    parser.add_argument("--again", action="store_true", help="deal out anew what has a split already")
    parser.set_defaults(run=_split)


def _split(given: argparse.Namespace) -> int:
    file = manifest.manifest_file(given.data)
    rows, findings = manifest.parse(file)
    manifest.refuse(findings, file.name)
    wanted = patients.shares(given.shares)
    if any(row.split for row in rows) and not given.again:
        raise DataError(f"{file} has splits already; --again deals all of its patients out anew.")
    chosen = patients.split(rows, wanted, given.seed)
    manifest.fill(file, {row.row: row.split for row in chosen})
    for name in manifest.SPLITS:
        mine = [row for row in chosen if row.split == name]
        if mine:
            print(f"{name}: {len({row.patient for row in mine})} patients, {len(mine)} photographs")
    return 0


def _pairs_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", type=Path, help="manifest.csv or its folder")
    parser.add_argument("--out", type=Path, required=True, help="folder for pairs/ and pairs.csv")
    parser.add_argument(
        "--bundle", type=Path, default=Path("bundles/nano"), help="whose models paint and judge"
    )
    parser.add_argument(
        "--pipeline", type=Path, help="diffusers pipeline that paints, instead of the bundle's"
    )
    parser.add_argument("--seeds", type=int, default=4, help="paintings of every photograph (default 4)")
    parser.add_argument(
        "--limit", type=int, default=0, help="at most so many photographs, evenly taken (0: all)"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.set_defaults(run=_pairs)


def _pairs(given: argparse.Namespace) -> int:
    if given.seeds < 2:
        raise DataError("a pair needs at least two paintings: --seeds 2 or more.")
    if given.limit < 0:
        raise DataError("--limit must be 0 (all) or more.")
    rows = manifest.read(given.data)
    if given.limit and given.limit < len(rows):
        rows = [rows[index] for index in np.linspace(0, len(rows) - 1, given.limit).round().astype(int)]
    models = _loader(given.bundle)()
    if given.pipeline:
        from inference.inpaint.inpainter import DiffusionInpainter

        models = replace(models, inpainter=DiffusionInpainter(given.pipeline))
    with Progress() as bar:
        task = bar.add_task("photographs", total=len(rows))
        made = scorer.make_pairs(
            rows, models, given.out, seeds=given.seeds, seed=given.seed, tick=lambda: bar.advance(task)
        )
    print(f"{len(made)} pairs of {len(rows)} photographs: {given.out / pairs.NAME}")
    return 0


def _synthetic_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, required=True, help="folder for images/, masks/ and manifest.csv")
    parser.add_argument(
        "--portraits",
        type=Path,
        help="folder with images/ (and labels/), or of pictures; default: invented people",
    )
    parser.add_argument(
        "--limit", type=int, default=0, help="at most so many portraits (default: all; invented: 24)"
    )
    parser.add_argument(
        "--each", type=int, default=2, help="pictures of every portrait, up to 6 diseases (default 2)"
    )
    parser.add_argument("--shares", default="8:1:1", help=f"as for split, or {HELD_BACK}: the project's held-back "
                        "portraits are the test set, at most --limit of them and of the others")  # fmt: skip
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--coco", action="store_true", help="write coco.json too, to try import-coco with")
    parser.add_argument(
        "--bundle", type=Path, default=Path("bundles/nano"), help="whose models segment and invent people"
    )
    parser.set_defaults(run=_synthetic)


def _synthetic(given: argparse.Namespace) -> int:
    if given.each < 1 or given.limit < 0:
        raise DataError("--each must be 1 or more, and --limit 0 (all) or more.")
    tested: frozenset[str] = frozenset()
    load = _loader(given.bundle)
    wanted = patients.shares("9:1:1" if given.shares == HELD_BACK else given.shares)
    if given.portraits is None:
        count = given.limit or 24
        portraits = synthetic.invented(load(), count, given.seed)
    else:
        if given.shares == HELD_BACK:
            behind = synthetic.pictures(given.portraits, given.limit, held=True)
            files = synthetic.pictures(given.portraits, given.limit, held=False) + behind
            tested = frozenset(file.stem for file in behind)
            wanted = {"train": 0.9, "validation": 0.1}
        else:
            files = synthetic.pictures(given.portraits, given.limit)
        count = len(files)
        portraits = synthetic.people(files, load)
    with Progress() as bar:
        task = bar.add_task("portraits", total=count)
        rows = synthetic.make(
            portraits, given.out, each=given.each, seed=given.seed, wanted=wanted, tested=tested,
            tick=lambda: bar.advance(task),
        )  # fmt: skip
    if given.coco:
        coco.write_coco(rows, given.out / "coco.json")
    print(
        f"{len(rows)} photographs of {len({row.patient for row in rows})} patients: {given.out / manifest.NAME}"
    )
    return 0


def _loader(bundle: Path) -> Callable[[], Models]:
    def load() -> Models:
        from inference.local import load_models

        return load_models(bundle)

    return load
