"""The model card of a bundle: its parts, where they come from, how they were trained, and what was measured."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from inference.assemble import NOTES
from inference.bundle import Bundle, part_files
from inference.signoff import objection

NAME = "README.md"
PARTS = ("segmenter", "inpainter", "faces")
TRAINED = "figures.json"
"""What a training found, beside a part's weights; the training's folder stands before it."""

MEANING = {
    "found": "photographs in which a face is found",
    "covered": "pixels of brows, eyes, noses and mouths hidden or kept as lesion",
    "outside": "photographs untouched outside of what is hidden",
    "compared": "results that the bundle's verifier could compare",
    "lesion_identical": "lesion pixels as photographed",
    "lesion_delta_e": "ΔE₀₀ over lesion pixels",
    "seam": "ΔE₀₀ across the outline of what is hidden",
    "seconds": "seconds a photograph, on the machine of the evaluation",
}
"""What a figure is, by its name; names of judges follow a comma."""


def card(bundle: Bundle, evaluation: Mapping[str, Any]) -> str:
    """The card, Markdown, of a bundle and what ``evaluation.json`` says of it."""
    notes = bundle.folder / NOTES
    said = ["", notes.read_text(encoding="utf-8").strip()] if notes.is_file() else []
    return (
        "\n".join([*_head(bundle), *_parts(bundle), *_trainings(bundle), *_measured(evaluation), *said])
        + "\n"
    )


def _head(bundle: Bundle) -> Iterator[str]:
    yield f"# {bundle.title}"
    yield ""
    against = objection(bundle)
    yield f"**Not signed off: {against}.** `gateway serve` refuses it." if against else "Signed off."
    yield ""
    yield "For trying, testing and developing; not for research data." if bundle.demonstration else "For use."
    yield ""
    yield f"**Licence.** {bundle.licence}"
    yield ""
    yield f"**Provenance.** {bundle.provenance}"
    yield ""


def _parts(bundle: Bundle) -> Iterator[str]:
    yield from _table(["part", "kind", "MB", "made from"], [_part(bundle, part) for part in PARTS])
    sampling = ", ".join(f"{key} {value}" for key, value in bundle.sampling.items() if value != "")
    yield f"The inpainter samples with {sampling}; {bundle.inpainter.get('candidates', 1)} painting(s) to choose from."
    yield f"Two faces count as one person from a cosine of {bundle.faces['similarity_limit']} on."
    yield ""


def _part(bundle: Bundle, part: str) -> list[str]:
    table = getattr(bundle, part)
    size = sum((bundle.folder / name).stat().st_size for name in part_files(bundle, part)) / 1e6
    return [
        part,
        str(table["kind"]),
        f"{size:.1f}",
        _source(bundle.folder / str(table["folder"]) / "source.json"),
    ]


def _source(file: Path) -> str:
    """What ``source.json`` names, with the first digits of each digest."""
    if not file.is_file():
        return "not told"
    told: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    shown = []
    for key, value in told.items():
        if isinstance(value, dict):
            shown += [f"{name} ({str(digest)[:12]}…)" for name, digest in value.items()]
        elif value not in ("", None):
            shown.append(f"{key} {value}")
    return "; ".join(shown)


def _trainings(bundle: Bundle) -> Iterator[str]:
    """First and last figures of every training that left some beside its part."""
    lines = []
    for part in PARTS:
        folder = bundle.folder / str(getattr(bundle, part)["folder"])
        for file in sorted(folder.glob(f"*{TRAINED}")):
            told: list[dict[str, float]] = json.loads(file.read_text(encoding="utf-8"))
            if not told:
                continue
            first, last = told[0], told[-1]
            which = f"{part}, {file.name.removesuffix(TRAINED).rstrip('-')}"
            lines += [
                [f"{which}: {name}", f"{first.get(name, float('nan')):.4g}", f"{last[name]:.4g}"]
                for name in last
                if name != "step" and isinstance(last[name], int | float)
            ]
            lines.append([f"{which}: steps", f"{first.get('step', 0):g}", f"{last.get('step', 0):g}"])
    if lines:
        yield "## Training"
        yield ""
        yield from _table(["figure on held-out photographs", "begun with", "at the end"], lines)


def _measured(evaluation: Mapping[str, Any]) -> Iterator[str]:
    yield "## Evaluation"
    yield ""
    yield (
        f"{evaluation['photographs']} photographs of {evaluation['patients']} patients whom no training saw "
        f"({', '.join(evaluation['diseases'])}), {evaluation['date']}; 95 % intervals over patients. Judged by "
        f"{', '.join(evaluation['judges'])}."
    )
    yield ""
    now, before = evaluation["figures"], (evaluation["before"] or {}).get("figures", {})
    headings = ["figure", f"{evaluation['before']['bundle']}, before"] if before else ["figure"]
    lines = []
    for name, figure in now.items():
        kind, comma, judge = name.partition(", ")
        line = [MEANING.get(kind, kind) + comma + judge]
        lines.append([*line, *([_interval(before.get(name))] if before else []), _interval(figure)])
    yield from _table([*headings, evaluation["bundle"]], lines)
    yield (
        "Asked for: "
        + ", ".join(
            f"{key.removeprefix('least_')} ≥ {value:g}" for key, value in evaluation["limits"].items()
        )
        + "; untouched outside of what is hidden: all."
    )
    yield ""
    yield "Not met: " + "; ".join(evaluation["unmet"]) + "." if evaluation["unmet"] else "All of it is met."


def _interval(figure: Mapping[str, float | None] | None) -> str:
    if figure is None or figure["value"] is None:
        return "–"
    if figure["low"] == figure["high"]:
        return f"{figure['value']:.3f}"
    return f"{figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]"


def _table(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> Iterator[str]:
    for line in (headings, ["---"] * len(headings), *lines):
        yield "| " + " | ".join(cell.replace("|", "/") for cell in line) + " |"
    yield ""
