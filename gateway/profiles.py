"""What happens to each attribute: the Basic Application Level Confidentiality Profile of PS3.15, as data.

``attributes.tsv`` carries Table E.1-1 (edition 2026c: the basic profile with every option column), the type
each attribute has in the objects treated here, and, with source ``image``, the attributes that describe a
photograph and pass. The table is an allow-list: **what it does not name is removed**, whether unknown,
private, retired or new.

How an action is resolved, first match wins:

1. the operator's ``[override]`` for this attribute;
2. the house rules below (few; each is one of the actions the table allows, or a stricter one, except that the
   patient's name is a pseudonym instead of empty);
3. with ``dates = "shift"``, attributes of VR DA, DT and TM that the column *Retain Longitudinal Temporal
Information
   with Modified Dates* marks ``C`` keep their meaning: dates move by one number of whole days per patient,
   times of day stay. The whole column applies, so that (0012,0064) may state 113107 in truth. Birth dates are
   not in it. Other VRs of that column (the time zone among them) follow the basic profile;
4. the basic profile. Of a composite such as X/Z/D the one that keeps the object valid is taken (PS3.15
E.3.1):
   D where the attribute is type 1 in an object treated here, Z where it is type 2, X elsewhere;
5. private attributes, curves (50xx), overlays (60xx), group lengths and everything unnamed: X.
"""

import csv
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType

from gateway.errors import Misconfigured

SOP_CLASSES: Mapping[str, str] = MappingProxyType(
    {
        "1.2.840.10008.5.1.4.1.1.77.1.4": "VL Photographic Image Storage",
        "1.2.840.10008.5.1.4.1.1.77.1.7": "Dermoscopic Photography Image Storage",
        "1.2.840.10008.5.1.4.1.1.7": "Secondary Capture Image Storage",
        "1.2.840.10008.5.1.4.1.1.7.4": "Multi-frame True Color Secondary Capture Image Storage",
    }
)
"""The objects this gateway treats; the table's composite actions are resolved for these."""


class Action(StrEnum):
    """The action codes of PS3.15 Table E.1-1a."""

    REMOVE = "X"
    EMPTY = "Z"
    DUMMY = "D"
    KEEP = "K"
    CLEAN = "C"  # here: dates, which move
    UID = "U"


_HOUSE: Mapping[int, Action] = MappingProxyType(
    {
        0x00100010: Action.DUMMY,  # Z would allow no name; the pseudonym tells patients apart in a list
        0x00100020: Action.DUMMY,
        0x00081140: Action.UID,  # Referenced Image Sequence: images that belong together stay together
        0x00082112: Action.REMOVE,  # Source Image Sequence: the source stays here
        0x00080106: Action.REMOVE,  # versions of context groups belong to the standard; moving them would lie
        0x00080107: Action.REMOVE,
        0x0040DB06: Action.REMOVE,
        0x0040DB07: Action.REMOVE,
    }
)
_DATES = frozenset({"DA", "DT", "TM"})
_TAG = re.compile(r"\(([0-9A-Fa-f]{4}),([0-9A-Fa-f]{4})\)")


@dataclass(frozen=True, slots=True)
class Rule:
    """One row of the table.

    Attributes
    ----------
    tag
        Eight hexadecimal digits, ``x`` for any digit, or ``private``.
    name
        The attribute's name, empty where the edition at hand gives none.
    basic
        Action codes of the basic profile, composites joined by ``/``.
    type
        The strictest type in the objects treated here: ``1``, ``2``, ``3``, or empty where it is not part of
        them.
    options
        Action by option, as ``{"modified-dates": "C"}``.
    source
        ``E.1-1``, or ``image`` for attributes that pass because they describe the picture.
    """

    tag: str
    name: str
    basic: str
    type: str
    options: Mapping[str, str]
    source: str

    def resolved(self) -> Action:
        """The basic action, composites decided by the attribute's type."""
        codes = self.basic.split("/")
        if "D" in codes and self.type == "1":
            return Action.DUMMY
        if "Z" in codes and self.type in {"1", "2"}:
            return Action.EMPTY
        return Action(codes[0])


@cache
def table() -> Mapping[str, Rule]:
    """All rules by :attr:`Rule.tag`, read once."""
    text = files("gateway").joinpath("attributes.tsv").read_text("utf-8")
    rows = csv.DictReader(text.splitlines(), delimiter="\t")
    rules = (
        Rule(
            tag=row["tag"],
            name=row["name"],
            basic=row["basic"],
            type=row["type"],
            options=MappingProxyType(dict(pair.split("=") for pair in row["options"].split())),
            source=row["source"],
        )
        for row in rows
    )
    return MappingProxyType({rule.tag: rule for rule in rules})


def rule(tag: int) -> Rule | None:
    """The row that speaks of ``tag``, repeating groups and private attributes included; ``None`` if none."""
    group = tag >> 16
    if group & 1:
        return table()["private"]
    digits = f"{tag:08x}"
    found = table().get(digits)
    if found is not None:
        return found
    if group & 0xFF00 == 0x5000:
        return table()["50xxxxxx"]
    if group & 0xFF00 == 0x6000:
        return table().get(f"60xx{digits[4:]}")
    return None


@dataclass(frozen=True, slots=True)
class Profile:
    """The basic profile, how dates are treated, and the operator's exceptions.

    Attributes
    ----------
    name
        For (0012,0063) and the conformance statement.
    dates
        ``shift``: move them per patient (113107); ``remove``: follow the basic profile.
    override
        Action by tag, from the operator.
    """

    name: str = "basic"
    dates: str = "shift"
    override: Mapping[int, Action] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.dates not in {"shift", "remove"}:
            raise Misconfigured('profile: dates must be "shift" or "remove"')

    def action(self, tag: int, vr: str) -> Action:
        """What happens to attribute ``tag`` of value representation ``vr``."""
        if tag in self.override:
            return self.override[tag]
        if tag in _HOUSE:
            return _HOUSE[tag]
        found = rule(tag)
        if found is None:
            return Action.REMOVE
        if self.dates == "shift" and vr in _DATES and found.options.get("modified-dates") == "C":
            return Action.CLEAN
        return found.resolved()

    def describe(self) -> list[tuple[str, str, str, str]]:
        """Every rule as it applies: tag, name, action, and where it comes from; for documents and tests."""
        from pydicom.datadict import dictionary_has_tag, dictionary_VR

        lines = []
        for key, row in table().items():
            if "x" in key or key == "private":
                lines.append((key, row.name, str(row.resolved()), row.source))
                continue
            tag = int(key, 16)
            vr = dictionary_VR(tag) if dictionary_has_tag(tag) else "UN"
            source = "override" if tag in self.override else "house" if tag in _HOUSE else row.source
            lines.append((key, row.name, str(self.action(tag, vr)), source))
        return lines


def load(path: Path) -> Profile:
    """The profile in a TOML file: ``name``, ``dates`` and ``[override]``, all optional.

    Raises
    ------
    Misconfigured
        The file cannot be read, or has an unknown key, a tag not written ``"(gggg,eeee)"``, or an action that
        is not one of X, Z, D, K, U, or C for a date.
    """
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise Misconfigured(f"profile {path.name} cannot be read: {type(error).__name__}") from error
    unknown = sorted(set(content) - {"name", "dates", "override"})
    if unknown:
        raise Misconfigured(f"profile {path.name}: unknown key {unknown[0]!r}")
    override = content.get("override", {})
    if not isinstance(override, dict):
        raise Misconfigured(f"profile {path.name}: override must be a table")
    return Profile(
        name=str(content.get("name", path.stem)),
        dates=str(content.get("dates", "shift")),
        override=MappingProxyType(dict(_override(path.name, key, code) for key, code in override.items())),
    )


def _override(where: str, key: str, code: object) -> tuple[int, Action]:
    from pydicom.datadict import dictionary_has_tag, dictionary_VR

    match = _TAG.fullmatch(key)
    if match is None:
        raise Misconfigured(f'profile {where}: write tags as "(gggg,eeee)", not {key!r}')
    tag = int(match[1] + match[2], 16)
    if not isinstance(code, str) or code not in set(Action):
        raise Misconfigured(f"profile {where}: the action for {key} must be one of X, Z, D, K, C, U")
    action = Action(code)
    if action is not Action.REMOVE and not dictionary_has_tag(tag):
        raise Misconfigured(f"profile {where}: {key} is private or unknown and can only be removed")
    vr = dictionary_VR(tag) if dictionary_has_tag(tag) else "UN"
    if action is Action.CLEAN and vr not in _DATES:
        raise Misconfigured(f"profile {where}: C moves dates, and {key} is none")
    if action is Action.UID and vr != "UI":
        raise Misconfigured(f"profile {where}: U replaces UIDs, and {key} is none")
    return tag, action
