"""What happens to each attribute: the profile and the ten options of PS3.15 Annex E, as data.

``attributes.tsv`` carries Table E.1-1 (edition 2026c: the basic profile with every option column; the rows added
since 2025a have no option columns yet), the type each attribute has in each kind of object, and, with source
``image``, the attributes that describe a photograph and pass. The table is an allow-list: **what it does not
name is removed**, whether unknown, private, retired or new.

How an action is resolved, first match wins:

1. the operator's ``[override]`` for this attribute;
2. curves (50xx) and overlays (60xx): X, with Clean Graphics too, because a bitmap may show letters;
3. what the chosen options say. Where several speak, C comes before K;
4. the house rules below (few; each is one of the actions the table allows, or a stricter one, except that names
   and identifiers of patient and study are pseudonyms instead of empty);
5. the basic profile. Of a composite such as X/Z/D the one that keeps the object valid is taken (PS3.15 E.3.1):
   D where the attribute is type 1 in that kind of object, Z where it is type 2, X elsewhere. In kinds of objects
   whose types are not known here the strongest is taken: D before Z before X;
6. private attributes, group lengths and everything unnamed: X. With *Retain Safe Private* those of
   ``safe_private.tsv`` and of the operator's ``[private]`` stay.

C means: dates and times move by one number of whole days per patient; texts are cleaned
(:mod:`gateway.descriptors`); sequences are treated item by item; UIDs are replaced; numbers and codes stay if
they are what their VR promises.
"""

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from importlib.resources import files
from types import MappingProxyType

from pydicom.datadict import dictionary_description, dictionary_has_tag, dictionary_VR

from gateway.errors import Misconfigured

SOP_CLASSES: Mapping[str, str] = MappingProxyType(
    {
        "1.2.840.10008.5.1.4.1.1.77.1.4": "VL Photographic Image Storage",
        "1.2.840.10008.5.1.4.1.1.77.1.7": "Dermoscopic Photography Image Storage",
        "1.2.840.10008.5.1.4.1.1.7": "Secondary Capture Image Storage",
        "1.2.840.10008.5.1.4.1.1.7.4": "Multi-frame True Color Secondary Capture Image Storage",
    }
)
"""The objects this gateway treats as photographs."""

_TYPES = """77.1.4 77.1.7 7 7.4 7.1 7.2 7.3 77.1.1 77.1.2 77.1.4.1 77.1.5.1
    88.11 88.22 88.33 88.59 11.1 104.1"""
_TYPED: Mapping[str, int] = MappingProxyType(
    {f"1.2.840.10008.5.1.4.1.1.{end}": place for place, end in enumerate(_TYPES.split())}
)
"""Where in column ``types`` a kind of object has its character."""


class Action(StrEnum):
    """The action codes of PS3.15 Table E.1-1a."""

    REMOVE = "X"
    EMPTY = "Z"
    DUMMY = "D"
    KEEP = "K"
    CLEAN = "C"
    UID = "U"


class Option(StrEnum):
    """The options of PS3.15 E.3 that a profile may choose; names as in column ``options``."""

    SAFE_PRIVATE = "safe-private"
    UIDS = "uids"
    DEVICE = "device"
    INSTITUTION = "institution"
    CHARACTERISTICS = "characteristics"
    FULL_DATES = "full-dates"
    MODIFIED_DATES = "modified-dates"
    DESCRIPTORS = "descriptors"
    STRUCTURED_CONTENT = "structured-content"
    GRAPHICS = "graphics"


CODES: Mapping[Option, str] = MappingProxyType(
    {
        Option.GRAPHICS: "113103",
        Option.STRUCTURED_CONTENT: "113104",
        Option.DESCRIPTORS: "113105",
        Option.FULL_DATES: "113106",
        Option.MODIFIED_DATES: "113107",
        Option.CHARACTERISTICS: "113108",
        Option.DEVICE: "113109",
        Option.UIDS: "113110",
        Option.SAFE_PRIVATE: "113111",
        Option.INSTITUTION: "113112",
    }
)
"""The code of CID 7050 that states each option."""

_HOUSE: Mapping[int, Action] = MappingProxyType(
    {
        # Z would allow no value; pseudonyms tell patients and studies apart in a list.
        0x00100010: Action.DUMMY,
        0x00100020: Action.DUMMY,
        0x00080050: Action.DUMMY,
        0x00200010: Action.DUMMY,
        0x00081140: Action.UID,  # Referenced Image Sequence: images that belong together stay together
        0x00082112: Action.REMOVE,  # Source Image Sequence: the source stays here
        0x00120081: Action.REMOVE,  # Ethics Committee Name: required only beside its approval number, which goes
        # Versions of context groups and templates are dates of the standard; moving them would lie.
        **dict.fromkeys((0x00080106, 0x00080107, 0x0040DB06, 0x0040DB07), Action.REMOVE),
    }
)
_GRAPHIC_LAYER = 0x00700002
"""A code string that is no code, but a name that somebody chose."""
_VERSIONS = frozenset({0x00080106, 0x00080107, 0x0040DB06, 0x0040DB07})

_DATES = frozenset({"DA", "DT", "TM"})


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
    types
        Its type in each kind of object, one character each: ``1``, ``2`` (conditional ones too), ``3``, ``-`` where
        it is no part of it; empty where it is part of none.
    options
        Action by option.
    source
        ``E.1-1``, or ``image`` for attributes that describe the picture or stand in content that is cleaned.
    """

    tag: str
    name: str
    basic: str
    types: str
    options: Mapping[Option, Action]
    source: str

    def type_in(self, sop_class: str) -> str:
        """Its type in objects of ``sop_class``: ``1``, ``2``, ``3``, or ``-``."""
        return self.types[_TYPED[sop_class]] if self.types and sop_class in _TYPED else "-"

    def resolved(self, sop_class: str) -> Action:
        """The basic action, composites decided by the attribute's type in objects of ``sop_class``."""
        codes = self.basic.split("/")
        if sop_class not in _TYPED:
            return Action(next(code for code in "DZUXK" if code in codes))
        type_ = self.type_in(sop_class)
        if "D" in codes and type_ == "1":
            return Action.DUMMY
        if "Z" in codes and type_ in {"1", "2"}:
            return Action.EMPTY
        return Action(codes[0])


@cache
def table() -> Mapping[str, Rule]:
    """All rules by :attr:`Rule.tag`, read once."""
    rules = (
        Rule(
            tag=row["tag"],
            name=row["name"],
            basic=row["basic"],
            types=row["types"],
            options=MappingProxyType(
                {Option(name): Action(code) for name, code in (o.split("=") for o in row["options"].split())}
            ),
            source=row["source"],
        )
        for row in _rows("attributes.tsv")
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
class Private:
    """A private attribute that is known to be safe.

    Attributes
    ----------
    creator
        Private Creator of its block.
    group
        Odd group number.
    element
        Place in the block, 0 to 255.
    """

    creator: str
    group: int
    element: int


@cache
def known_private() -> Mapping[Private, str]:
    """The private attributes of PS3.15 Table E.3.10-1 that hold numbers or codes, and the VR of each."""
    return MappingProxyType(
        {
            Private(row["creator"], int(row["group"], 16), int(row["element"], 16)): row["vr"]
            for row in _rows("safe_private.tsv")
        }
    )


def _rows(name: str) -> Iterable[dict[str, str]]:
    text = files("gateway").joinpath(name).read_text("utf-8")
    return csv.DictReader(text.splitlines(), delimiter="\t")


@dataclass(frozen=True, slots=True)
class Profile:
    """The basic profile, the options chosen, and the operator's exceptions.

    Attributes
    ----------
    name
        For (0012,0063) and the conformance statement.
    options
        Those of PS3.15 E.3 that apply.
    override
        Action by tag, from the operator.
    issuer
        Who gave the Patient IDs that name no issuer.
    private
        Further safe private attributes and their VRs, from the operator; with *Retain Safe Private*.
    words
        Further words that may stay in cleaned texts, in lower case.

    Raises
    ------
    Misconfigured
        Both dates options are chosen.
    """

    name: str = "basic"
    options: frozenset[Option] = frozenset({Option.MODIFIED_DATES})
    override: Mapping[int, Action] = field(default_factory=dict)
    issuer: str = ""
    private: Mapping[Private, str] = field(default_factory=dict)
    words: frozenset[str] = frozenset()
    _known: dict[tuple[int, str], tuple[str, Action]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        if {Option.FULL_DATES, Option.MODIFIED_DATES} <= self.options:
            raise Misconfigured("profile: choose full-dates or modified-dates, not both")

    @property
    def moves_dates(self) -> bool:
        """Whether dates move per patient."""
        return Option.MODIFIED_DATES in self.options

    def action(self, tag: int, vr: str, sop_class: str) -> Action:
        """What happens to the standard's attribute ``tag``, of value representation ``vr``, in such an object."""
        if tag in self.override:
            return self.override[tag]
        found = rule(tag)
        if found is None or tag >> 24 in {0x50, 0x60}:
            return Action.REMOVE
        said = {found.options[option] for option in self.options if option in found.options}
        if Action.CLEAN in said and tag not in _VERSIONS and vr not in {"OB", "OW", "UN"}:
            return Action.CLEAN
        if Action.KEEP in said:
            return Action.KEEP
        return _HOUSE.get(tag) or found.resolved(sop_class)

    def resolved(self, tag: int, sop_class: str) -> tuple[str, Action]:
        """VR and action of any attribute of a data set.

        What the standard does not name, what is private and what belongs to a message or a file is removed.
        Specific Character Set too: it is decided when all texts are known.
        """
        known = self._known.get((tag, sop_class))
        if known is None:
            group = tag >> 16
            if group & 1 or group in {0x0000, 0x0002} or tag == 0x00080005 or not dictionary_has_tag(tag):
                return "UN", Action.REMOVE
            vr = dictionary_VR(tag)
            known = vr, self.action(tag, vr, sop_class)
            if sop_class in _TYPED:  # so that the cache cannot grow beyond the dictionary
                self._known[tag, sop_class] = known
        return known

    def fallback(self, tag: int, sop_class: str) -> Action:
        """What becomes of an attribute of whose cleaned value nothing is left."""
        found = rule(tag)
        if found is None:
            return Action.REMOVE
        action = found.resolved(sop_class)
        if action in {Action.KEEP, Action.UID}:
            return {"1": Action.DUMMY, "2": Action.EMPTY}.get(found.type_in(sop_class), Action.REMOVE)
        return action

    def keeps_uid(self, tag: int) -> bool:
        """Whether the operator or an option keeps the UIDs of this attribute, and not only the standard's own."""
        if tag in self.override:
            return self.override[tag] is Action.KEEP
        found = rule(tag)
        return found is not None and any(found.options.get(o) is Action.KEEP for o in self.options)

    def describes(self, tag: int) -> bool:
        """Whether a code of this attribute describes and has to be cleaned like a text."""
        found = rule(tag)
        return found is None or found.source != "image" or tag == _GRAPHIC_LAYER

    @property
    def keeps_private(self) -> bool:
        """Whether private attributes that are known to be safe stay."""
        return Option.SAFE_PRIVATE in self.options

    def safe_private(self, creator: str, group: int, element: int) -> str | None:
        """The VR of a private attribute that stays; ``None`` for all others."""
        if not self.keeps_private:
            return None
        wanted = Private(creator, group, element)
        return self.private.get(wanted) or known_private().get(wanted)

    def describe(self) -> list["Line"]:
        """Every rule as it applies, for documents, operators and tests."""
        lines = []
        for key, row in table().items():
            if "x" in key or key == "private":
                keeps = key == "private" and Option.SAFE_PRIVATE in self.options
                action = "X, K if known to be safe" if keeps else "X"
                lines.append(
                    Line(key, row.name, (action,) * len(SOP_CLASSES), "option" if keeps else row.source)
                )
                continue
            tag = int(key, 16)
            vr = dictionary_VR(tag) if dictionary_has_tag(tag) else "UN"
            actions = tuple(self.action(tag, vr, sop_class) for sop_class in SOP_CLASSES)
            lines.append(Line(key, row.name, tuple(map(str, actions)), self._source(tag, row, actions)))
        unnamed = sorted(tag for tag in self.override if f"{tag:08x}" not in table())
        lines += [
            Line(
                f"{tag:08x}",
                dictionary_description(tag) if dictionary_has_tag(tag) else "",
                (str(self.override[tag]),) * len(SOP_CLASSES),
                "override",
            )
            for tag in unnamed
        ]
        return lines

    def _source(self, tag: int, row: Rule, actions: tuple[Action, ...]) -> str:
        if tag in self.override:
            return "override"
        if actions[0] in {row.options[option] for option in self.options if option in row.options}:
            return "option"
        return "house" if tag in _HOUSE else row.source


@dataclass(frozen=True, slots=True)
class Line:
    """What happens to one attribute.

    Attributes
    ----------
    tag
        As :attr:`Rule.tag`.
    name
        The attribute's name.
    actions
        One for each of :data:`SOP_CLASSES`.
    source
        What decided: ``override``, ``option``, ``house``, ``E.1-1`` or ``image``.
    """

    tag: str
    name: str
    actions: tuple[str, ...]
    source: str
