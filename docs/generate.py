"""Writes the pages that are made from the code: ``python docs/generate.py``; a test compares them with it."""

import re
from collections.abc import Iterable, Mapping
from itertools import groupby
from pathlib import Path

from pydicom.charset import python_encoding

from gateway import forward, mark, receive, settings
from gateway.objects import Treatment
from gateway.profile_files import action_of, written_tag
from gateway.profiles import CODES, SOP_CLASSES, Option, Profile
from gateway.profiles import table as rules

FOLDER = Path(__file__).resolve().parent

ATTRIBUTES = f"""\
# What happens to each attribute

Made from `gateway/attributes.tsv` by `python docs/generate.py`: the profile `basic`, as in
`conf/profiles/basic.toml`, with *Retain Longitudinal Temporal Information with Modified Dates*. For any other choice
`gateway profile show [--profile NAME] [--option OPTION …]` prints the same table. Composite actions are resolved by
the attribute's type in each kind of object; where the kinds differ, four actions stand for these:
{", ".join(name.removesuffix(" Storage") for name in SOP_CLASSES.values())}.
**Every attribute that has no row here is removed**, and so is every private one that is not in
`gateway/safe_private.tsv`, every curve and every overlay.

X removed · Z emptied · D replaced by a dummy or a pseudonym · K kept if the value is what its VR promises ·
C dates moved by the patient's number of days and times kept, texts and contents cleaned · U UID replaced, unless the
standard defines it · for sequences, K, C and U mean that the items are treated by the same table.

The last column says what each option of PS3.15 E.3 would do; where several are chosen, C comes before K. Source:
`E.1-1` is the table of PS3.15; `option` the option of this profile; `house` a stricter or equally allowed choice
explained in `gateway/profiles.py`; `image` an attribute that describes the picture and is not in the table.

| option | code | stated as |
|---|---|---|
{{options}}
| tag | attribute | action | source | options |
|---|---|---|---|---|
"""


def pages() -> Mapping[str, str]:
    """The text of each generated page by its file name."""
    options = "".join(f"| {option} | {CODES[option]} | {mark.CODES[CODES[option]]} |\n" for option in Option)
    rows = [
        f"| {written_tag(line.tag)} | {line.name or '–'} | {action_of(line)} | {line.source} "
        f"| {', '.join(f'{o} {a}' for o, a in rules()[line.tag].options.items())} |\n"
        for line in Profile().describe()
    ]
    return {
        "settings.md": settings.document(),
        "attributes.md": ATTRIBUTES.format(options=options) + "".join(rows),
        "conformance.md": conformance((FOLDER / "conformance.md").read_text(encoding="utf-8")),
    }


def conformance(page: str) -> str:
    """The conformance statement with its tables made anew; everything outside the markers stays."""
    tables = {
        "sop-classes": sop_classes(),
        "statuses-scp": table(("status", "meaning", "when"), STATUSES),
        "statuses-scu": statuses_scu(),
        "codes": codes(),
        "transfer-syntaxes": transfer_syntaxes(),
        "character-sets": ", ".join(f"`{term}`" if term else "none" for term in python_encoding) + ".\n",
    }
    for name, text in tables.items():
        start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->\n"
        page, replaced = re.subn(
            f"{start}.*?{end}", lambda _, new=start + text + end: new, page, flags=re.DOTALL
        )
        assert replaced == 1, f"the page has no place for {name}"
    return page


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    names = tuple(head)
    lines = [names, ("---",) * len(names), *map(tuple, rows)]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def _hex(status: int) -> str:
    return f"0x{status:04X}"


STATUSES = (
    (
        _hex(receive.SUCCESS),
        "success",
        "the bytes are durable and noted in the ledger; also for a repeat of the same bytes",
    ),
    (
        _hex(receive.OUT_OF_RESOURCES),
        "refused: out of resources",
        "disk or ledger unavailable, free space below the reserve, or an unexpected error",
    ),
    (
        _hex(receive.MISMATCH),
        "error: data set does not match SOP class",
        "it is another SOP class or instance than announced, or a picture to be treated that has no pixels",
    ),
    (
        _hex(receive.CANNOT_UNDERSTAND),
        "error: cannot understand",
        "the data set cannot be read up to its pixels, or is larger than `[listener] max_object_mb`",
    ),
)


def sop_classes() -> str:
    """What is received, and what happens to it."""
    rows = [("Verification", str(receive.VERIFICATION), "yes", "no", "–")]
    for uid, treatment in settings.Objects().received().items():
        rows.append(
            (uid.name, str(uid), "yes", "no" if treatment is Treatment.REFUSE else "yes", str(treatment))
        )
    return table(("SOP class", "UID", "as SCP", "as SCU", "what happens"), rows)


def statuses_scu() -> str:
    """Every status of C-STORE by what it is taken for."""
    ranges: dict[forward.Answer, list[str]] = {}
    for answer, statuses in groupby(range(1 << 16), key=forward.meaning):
        first, *rest = statuses
        ranges.setdefault(answer, []).append(f"{_hex(first)} to {_hex(rest[-1])}" if rest else _hex(first))
    ranges[forward.Answer.REFUSED] = ["every other"]
    return table(("taken as", "status of the archive"), ((str(a), ", ".join(ranges[a])) for a in ranges))


def codes() -> str:
    """What may be stated in (0012,0064)."""
    return table(("code", "meaning"), mark.CODES.items())


def transfer_syntaxes() -> str:
    """In what each kind of object may come."""
    offered = receive.offered(settings.Objects())
    treatments = settings.Objects().received()
    wanted = {
        treated: {
            syntax
            for uid, found in offered.items()
            if (treatments[uid] is not Treatment.REFUSE) is treated
            for syntax in found
        }
        for treated in (True, False)
    }
    every = dict.fromkeys(syntax for found in offered.values() for syntax in found)
    return table(
        ("transfer syntax", "UID", "what is treated", "what is refused"),
        (
            (uid.name, str(uid), *("yes" if uid in wanted[treated] else "no" for treated in (True, False)))
            for uid in every
        ),
    )


if __name__ == "__main__":
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
