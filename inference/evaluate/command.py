"""``gateway-models evaluate``: compares methods on a manifest's photographs; parses, wires, runs."""

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from inference.bundle import MANIFEST, digest, read_bundle
from inference.data import DataError
from inference.data.manifest import Photograph, read
from inference.evaluate import attacks, compare, identity, perception, plots, registry, report
from inference.evaluate.attacks import Attack
from inference.evaluate.classifier import Classifier
from inference.evaluate.identity import Identity, Judge
from inference.evaluate.looks import Looks
from inference.evaluate.loop import Evaluated, Results, evaluate
from inference.evaluate.methods import Method
from inference.evaluate.metrics import Diseases, Lesions, Metric, Seams, Seconds
from inference.evaluate.ratings import read_ratings
from inference.faces.analyser import PackUnusable


@dataclass(frozen=True, slots=True)
class Photographs:
    """Who is anonymised, who else is in the gallery, and of whom attackers learn."""

    probes: Sequence[Photograph]
    tested: Sequence[Photograph]
    others: Sequence[Photograph]


def run(given: argparse.Namespace) -> int:
    """Compare methods as the options of :mod:`inference.evaluate.options` say; 0 when the report is written.

    Raises
    ------
    DataError, BundleError
        Something that is needed is not there; the message says what to do.
    """
    torch.set_num_threads(max(1, given.threads))
    cv2.setNumThreads(max(1, given.threads))
    _attackable(given)
    photographs = _photographs(given)
    rated = read_ratings(given.ratings, given.methods, photographs.probes) if given.ratings else {}
    methods = registry.make(given.methods, given.bundle, _weights(given.weights))
    told, left_out = _told(given)
    results = Results(given.out / "results")
    with Progress(disable=not Console().is_terminal) as bar:
        judges, remarks = _judges(given, photographs, bar)
        metrics: list[Metric] = [Lesions(), Seams(), Seconds(), *(Identity(one) for one in judges), *told]
        task = bar.add_task("methods", total=len(methods) * len(photographs.probes))
        found = evaluate(methods, photographs.probes, metrics, results,
                         lambda name: bar.update(task, advance=1, description=name))  # fmt: skip
        if given.attack is not None:
            found = _attacked(given, methods, found, judges, photographs, results)
    found = [Evaluated(one.name, {**one.measured, **rated.get(one.name, {})}) for one in found]
    pictures = _pictures(methods, found, judges, photographs.probes, results, given.out / "plots")
    about = _about(given, methods, photographs, judges)
    report.write(report.Report(found, about, [*remarks, *left_out], pictures), given.out)
    _show(found)
    for remark in [*remarks, *left_out]:
        print(remark)
    print(f"Everything with intervals and pictures: {given.out / 'report.html'}")
    return 0


def _attackable(given: argparse.Namespace) -> None:
    """Refuse attacks that would not be made, or that nobody could learn."""
    if given.attack is None:
        return
    missing = [name for name in given.attack if name not in given.methods]
    if missing:
        raise DataError(f"--attack names {', '.join(missing)}, which is not among --methods.")
    if given.attack_steps < 1 or given.attack_patients < 2:
        raise DataError("--attack-steps must be 1 or more, and --attack-patients 2 or more.")


def _photographs(given: argparse.Namespace) -> Photographs:
    everything = read(given.data)
    tested = [one for one in everything if one.split == given.split]
    if not tested:
        raise DataError(
            f"{given.data} has nothing in the split {given.split}; gateway-models data split chooses."
        )
    others = [one for one in everything if one.split != given.split]
    return Photographs(_first_of_each(tested) if given.one_each else tested, tested, others)


def _first_of_each(photographs: Sequence[Photograph]) -> list[Photograph]:
    """The first photograph of every patient."""
    return list({one.patient: one for one in reversed(photographs)}.values())[::-1]


def _weights(texts: Sequence[str]) -> dict[str, Path]:
    """Folders by method."""
    found: dict[str, Path] = {}
    for text in texts:
        name, separator, folder = text.partition("=")
        if not (name and separator and folder):
            raise DataError(f"--weights takes METHOD=FOLDER, not {text!r}.")
        if name in found:
            raise DataError(f"--weights names two folders for {name}.")
        found[name] = Path(folder)
    return found


def _judges(
    given: argparse.Namespace, photographs: Photographs, bar: Progress
) -> tuple[list[Judge], list[str]]:
    bundle = read_bundle(given.bundle)
    own = given.bundle / bundle.faces["folder"]
    task = bar.add_task("judges", total=None)
    remarks = []
    folders: list[Path] = given.judges or [own]
    if any(folder.resolve() == own.resolve() for folder in folders):
        remarks.append(
            f"The face pack of the bundle {bundle.name} judges its own method, which paints again whom it recognises: "
            "its figures flatter anoskin. Give packs that no method uses as --judges."
        )
    shared = Looks(given.out / "looks")
    tested, others = photographs.tested, photographs.others
    try:
        return identity.judges(folders, tested, others, shared, lambda: bar.advance(task)), remarks
    except (PackUnusable, ValueError) as error:
        raise DataError(f"These cannot judge: {error}.") from error


def _told(given: argparse.Namespace) -> tuple[list[Metric], list[str]]:
    """The metrics that need weights, and one sentence for each that is left out."""
    found, left_out = perception.available(given.metric_weights)
    metrics: list[Metric] = [*found]
    if given.classifier:
        metrics.append(Diseases(Classifier(given.classifier)))
    else:
        left_out.append(
            "Diseases were not judged: train a judge with gateway-models train classifier and give it as --classifier."
        )
    return metrics, left_out


def _attacked(  # noqa: PLR0913, PLR0917 - what is attacked, by whom, with what
    given: argparse.Namespace,
    methods: Sequence[Method],
    found: Sequence[Evaluated],
    judges: Sequence[Judge],
    photographs: Photographs,
    results: Results,
) -> list[Evaluated]:
    """The methods with what attackers found of those under attack."""
    known = _first_of_each(photographs.others)[: given.attack_patients]
    if len(known) < 2:
        raise DataError(
            "Attackers learn from photographs outside the tested split; this manifest has too few."
        )
    config = Attack(steps=given.attack_steps)
    wanted = given.attack or [method.name for method in methods if method.name != "none"]
    complete = []
    for method, one in zip(methods, found, strict=True):
        measured = dict(one.measured)
        if method.name in wanted:
            # Some methods look at all photographs of a set; attackers learn from another set than they attack.
            method.prepare(known)
            learnt = attacks.pairs(known, method, results, judges[0])
            method.prepare(photographs.probes)
            aimed = attacks.pairs(photographs.probes, method, results, judges[0])
            if len(learnt.names) < 2 or not aimed.names:
                raise DataError("Too few faces were found for an attack; leave out --attack.")
            painted = attacks.invert(learnt, aimed.after, config)
            for judge in judges:
                for name, attack in attacks.attack(learnt, aimed, judge, painted).items():
                    measured[f"{name} {judge.name}"] = attack
        complete.append(Evaluated(one.name, measured))
    return complete


def _pictures(  # noqa: PLR0913, PLR0917 - everything a picture may show
    methods: Sequence[Method],
    found: Sequence[Evaluated],
    judges: Sequence[Judge],
    probes: Sequence[Photograph],
    results: Results,
    folder: Path,
) -> dict[str, Path]:
    folder.mkdir(parents=True, exist_ok=True)
    made = {
        "Who and what is still told": folder / "roc.png",
        "Cosines to the own original": folder / "similarity.png",
    }
    plots.rocs(found, judges, folder / "roc.png")
    plots.spread(found, judges, folder / "similarity.png")
    for method in methods:
        file = folder / f"{method.name}.jpg"
        plots.sheet(method, probes, results, file)
        made[f"{method.name}: before and after"] = file
    return made


def _about(
    given: argparse.Namespace, methods: Sequence[Method], photographs: Photographs, judges: Sequence[Judge]
) -> dict[str, Any]:
    about: dict[str, Any] = {
        "photographs": len(photographs.probes),
        "patients": len({one.patient for one in photographs.probes}),
        "diseases": dict(sorted(Counter(one.disease for one in photographs.probes).items())),
        "photographs of other splits": len(photographs.others),
        "bundle": read_bundle(given.bundle).title,
        "bundle.toml": digest(given.bundle / MANIFEST),
        "methods": {method.name: method.fingerprint for method in methods},
        "judges": {
            judge.name: {
                "persons in the gallery": judge.gallery.persons,
                "photographs in the gallery": len(judge.gallery.names),
                "thresholds at 1e-2 and 1e-3": [round(one, 4) for one in judge.gallery.thresholds],
            }
            for judge in judges
        },
    }
    if given.classifier:
        about["judge of diseases"] = Classifier(given.classifier).card
    if given.attack is not None:
        about["attack"] = {"steps": given.attack_steps, "patients at most": given.attack_patients}
    return about


def _show(found: Sequence[Evaluated]) -> None:
    """A narrow table for the terminal, without intervals; the page has them all."""
    columns = [
        column
        for column in report.COLUMNS
        if column.short and any(report.shown(one, column) is not None for one in found)
    ]
    table = Table("", "method", "score", *(column.short for column in columns))
    for place, one in enumerate(compare.ranked(found), start=1):
        figures = [report.shown(one, column) for column in columns]
        cells = [
            "–" if figure is None else f"{figure.value:.{column.digits}f}"
            for column, figure in zip(columns, figures, strict=True)
        ]
        score = compare.score(one)
        table.add_row(str(place), one.name, "–" if np.isnan(score) else f"{score:.3f}", *cells)
    Console().print(table)
