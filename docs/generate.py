"""Writes the pages that are made from the code: ``python docs/generate.py``; a test compares them with it."""

import re
from collections.abc import Iterable, Mapping
from itertools import groupby
from pathlib import Path

from pydicom.charset import python_encoding

from gateway import forward, mark, receive, settings
from gateway.objects import Treatment
from gateway.profiles import Profile

FOLDER = Path(__file__).resolve().parent

ATTRIBUTES = """\
# What happens to each attribute

Made from `gateway/attributes.tsv` by `python docs/generate.py`: the profile `basic` with `dates = "shift"`, as in
`conf/profiles/basic.toml`. Composite actions are resolved for the object kinds of the
[conformance statement](conformance.md). **Every attribute that has no row here is removed**, and so is every private
one, every curve and every overlay.

X removed · Z emptied · D replaced by a dummy or a pseudonym · K kept if the value is what its VR promises ·
C dates moved by the patient's number of days, times kept · U UID replaced, unless the standard defines it ·
for sequences, K and U mean that the items are treated by the same table.

Source: `E.1-1` is the table of PS3.15; `house` a stricter or equally allowed choice explained in
`gateway/profiles.py`; `image` an attribute that describes the picture and is not in the table.

| tag | attribute | action | source |
|---|---|---|---|
"""


def pages() -> Mapping[str, str]:
    """The text of each generated page by its file name."""
    rows = [
        f"| {_tag(tag)} | {name or '–'} | {action} | {source} |\n"
        for tag, name, action, source in Profile().describe()
    ]
    return {
        "settings.md": settings.document(),
        "attributes.md": ATTRIBUTES + "".join(rows),
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


def _tag(digits: str) -> str:
    return f"({digits[:4]},{digits[4:]})" if len(digits) == 8 else digits


if __name__ == "__main__":
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
