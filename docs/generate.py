"""Writes the pages that are made from the code: ``python docs/generate.py``; a test compares them with it."""

from collections.abc import Mapping
from pathlib import Path

from gateway import settings
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
    return {"settings.md": settings.document(), "attributes.md": ATTRIBUTES + "".join(rows)}


def _tag(digits: str) -> str:
    return f"({digits[:4]},{digits[4:]})" if len(digits) == 8 else digits


if __name__ == "__main__":
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
