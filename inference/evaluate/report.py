"""What was found, for people and for programs: a table as the paper's, JSON, and one HTML page with all pictures."""

import base64
import html
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inference.evaluate import compare
from inference.evaluate.loop import Evaluated
from inference.evaluate.statistics import Figure

BASES = ("anoskin", "anoskin-once", "masking")
"""Methods that all others are compared with, picture by picture."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the table: its heading, where the figure is, how many digits, and which way is better."""

    heading: str
    metric: str
    figure: str
    digits: int
    better: str
    worst: bool = False
    """Several metrics begin with ``metric`` (one a judge): the one that speaks most against the method is shown."""
    short: str = ""
    """Heading in the narrow table of a terminal; without one the column is left out there."""


COLUMNS = (
    Column("withheld", "leaving", "withheld", 2, "", short="held"),
    Column("disease AUC", "diseases", "auc_after", 3, "↑", short="AUC"),
    Column("retention", "diseases", "retention", 3, "↑"),
    Column(
        "unrecognised at FAR 1e-2", "identity ", "unrecognised at 0.01", 3, "↑", worst=True, short="unrecog."
    ),
    Column("at FAR 1e-3", "identity ", "unrecognised at 0.001", 3, "↑", worst=True),
    Column("no face at 1e-2", "identity ", "no face at 0.01", 3, "", worst=True, short="no face"),
    Column("rank-1", "identity ", "rank-1", 3, "↓", worst=True, short="rank-1"),
    Column(
        "recognised in another photograph at FAR 1e-3",
        "identity ",
        "recognised on another photograph at 0.001",
        3,
        "↓",
        worst=True,
    ),
    Column("rank-1, other photograph", "identity ", "rank-1 on another photograph", 3, "↓", worst=True),
    Column("rank-1 inverted", "inversion ", "rank-1", 3, "↓", worst=True, short="inverted"),
    Column("rank-1 retrained", "retrained ", "rank-1", 3, "↓", worst=True),
    Column("FID", "fid", "fid", 1, "↓"),
    Column("1 − MS-SSIM", "ms-ssim", "one_minus_ms_ssim", 3, "↓"),
    Column("LPIPS", "lpips", "lpips", 3, "↓"),
    Column("lesion ΔE₀₀", "lesions", "lesion_delta_e", 2, "↓"),
    Column("lesion identical", "lesions", "lesion_identical", 3, "↑", short="lesion"),
    Column("seam ΔE₀₀", "seams", "seam", 2, "↓"),
    Column("s/picture", "seconds", "seconds", 2, "↓", short="s"),
    Column("clinical (1–5)", "clinical", "clinical", 2, "↑", short="clinical"),
)


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that is written.

    Attributes
    ----------
    found
        The methods, in any order.
    about
        Data, judges and weights: what a reader needs to believe the figures.
    remarks
        Sentences on what was left out and what limits the figures.
    pictures
        Files (PNG, JPEG) by caption.
    """

    found: Sequence[Evaluated]
    about: Mapping[str, Any]
    remarks: Sequence[str]
    pictures: Mapping[str, Path] = field(default_factory=dict)


def shown(method: Evaluated, column: Column) -> Figure | None:
    """The figure of a column; None where it was not measured."""
    candidates = [
        measured.figures[column.figure]
        for name, measured in method.measured.items()
        if (name.startswith(column.metric) if column.worst else name == column.metric)
        and column.figure in measured.figures
    ]
    known = [figure for figure in candidates if math.isfinite(figure.value)]
    if not known:
        return None
    return (min if column.better == "↑" else max)(known, key=lambda figure: figure.value)


def rows(found: Sequence[Evaluated]) -> tuple[list[str], list[list[str]]]:
    """Headings and rows of the table, best method first; columns that nobody has are left out."""
    columns = [column for column in COLUMNS if any(shown(method, column) for method in found)]
    headings = ["", "method", "score ↑", *(f"{column.heading} {column.better}".strip() for column in columns)]
    lines = []
    for place, method in enumerate(compare.ranked(found), start=1):
        line = [str(place), method.name, _number(compare.score(method), 3)]
        for column in columns:
            figure = shown(method, column)
            line.append("–" if figure is None else _interval(figure, column.digits))
        lines.append(line)
    return headings, lines


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else "–"


def _interval(figure: Figure, digits: int) -> str:
    if figure.low == figure.high:
        return _number(figure.value, digits)
    return f"{_number(figure.value, digits)} [{_number(figure.low, digits)}, {_number(figure.high, digits)}]"


def text(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """The table in Markdown."""
    ruled = [headings, ["---"] * len(headings), *lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in ruled) + "\n"


def as_json(report: Report) -> dict[str, Any]:
    """Every figure, series and difference as plain values; what is no number is null."""
    return {
        "about": dict(report.about),
        "remarks": list(report.remarks),
        "ranking": [method.name for method in compare.ranked(report.found)],
        "methods": {
            method.name: {
                "score": _plain(compare.score(method)),
                "metrics": {
                    name: {
                        "figures": {key: _figure(figure) for key, figure in measured.figures.items()},
                        "series": {
                            key: [_plain(one) for one in values] for key, values in measured.series.items()
                        },
                    }
                    for name, measured in method.measured.items()
                },
            }
            for method in report.found
        },
        "differences": {
            base: {
                name: {key: _figure(figure) for key, figure in apart.items()}
                for name, apart in compare.against(report.found, base).items()
            }
            for base in BASES
        },
    }


def _plain(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _figure(figure: Figure) -> dict[str, float | None]:
    return {"value": _plain(figure.value), "low": _plain(figure.low), "high": _plain(figure.high)}


def write(report: Report, out: Path) -> None:
    """Write ``report.json``, ``table.md`` and ``report.html`` into ``out``."""
    out.mkdir(parents=True, exist_ok=True)
    headings, lines = rows(report.found)
    (out / "report.json").write_text(
        json.dumps(as_json(report), indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    (out / "table.md").write_text(text(headings, lines), encoding="utf-8")
    (out / "report.html").write_text(_page(report, headings, lines), encoding="utf-8")


STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 90rem; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; font-size: 13px; margin: 1rem 0; display: block; overflow-x: auto }
th, td { border-bottom: 1px solid #ddd; padding: .3rem .6rem; text-align: right; white-space: nowrap }
th { vertical-align: bottom; white-space: normal; min-width: 4.5rem }
td:nth-child(2), th:nth-child(2) { text-align: left }
img { max-width: 100%; border: 1px solid #ddd } figure { margin: 1.5rem 0 } li { margin: .3rem 0 }
"""

READING = """Each figure stands with the interval in which it lies with a probability of 95 % (bootstrap over
patients). <b>Score</b> is the harmonic mean of the disease kept (area after, from chance 0.5 to that of originals) and
of the results unrecognised at a false accept rate of 1e-2. <b>Unrecognised</b> counts results whose cosine with the own
original stays below the judge's threshold, aligned by the face found in the result and by the original's, whichever is
likelier; <b>no face</b> is the part of them in which no face is found, which is no success by itself. Of several judges
the one that speaks most against the method is shown; each one's figures are in report.json. <b>Inverted</b> and
<b>retrained</b> are attackers who learnt from pairs of other people."""


def _page(report: Report, headings: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    parts = [
        "<!doctype html><html lang='en'><meta charset='utf-8'><title>Anonymisation methods compared</title>",
        f"<style>{STYLE}</style><h1>Anonymisation methods compared</h1><p>{READING}</p>",
        _table(headings, lines),
        "<h2>Remarks</h2><ul>", *(f"<li>{html.escape(remark)}</li>" for remark in report.remarks), "</ul>",
        "<h2>What was compared</h2>",
        _table(["", "", ""], [["", str(key), _said(value)] for key, value in report.about.items()]),
    ]  # fmt: skip
    for base in BASES:
        apart = compare.against(report.found, base)
        keys = list(dict.fromkeys(key for figures in apart.values() for key in figures))
        if keys:
            parts.append(f"<h2>Differences to {html.escape(base)}, picture by picture</h2>")
            table = [
                ["", name, *("–" if key not in figures else _interval(figures[key], 3) for key in keys)]
                for name, figures in apart.items()
            ]
            parts.append(_table(["", "method", *keys], table))
    for caption, file in report.pictures.items():
        kind = "jpeg" if file.suffix == ".jpg" else "png"
        data = base64.b64encode(file.read_bytes()).decode()
        parts.append(f"<figure><figcaption>{html.escape(caption)}</figcaption>"
                     f"<img alt='{html.escape(caption)}' src='data:image/{kind};base64,{data}'></figure>")  # fmt: skip
    return "\n".join(parts) + "\n"


def _said(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else str(value)


def _table(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{html.escape(one)}</th>" for one in headings)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(one)}</td>" for one in line) + "</tr>" for line in lines
    )
    return f"<table><tr>{head}</tr>{body}</table>"
