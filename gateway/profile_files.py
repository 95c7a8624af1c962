"""Profiles as the operator writes them: TOML files with options, exceptions and words."""

import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from pydicom.datadict import dictionary_has_tag, dictionary_VR

from gateway.errors import Misconfigured
from gateway.profiles import Action, Line, Option, Private, Profile

KEYS = frozenset({"name", "options", "issuer", "words", "override", "private"})
PRIVATE_VRS = frozenset({"DS", "IS", "US", "SS", "UL", "SL", "FL", "FD", "CS"})
"""What a safe private attribute may hold: numbers and codes, which can be checked."""

K = TypeVar("K")
V = TypeVar("V")
_TAG = re.compile(r"\(([0-9A-Fa-f]{4}),([0-9A-Fa-f]{4})\)")
_PRIVATE = re.compile(r"\(([0-9A-Fa-f]{4}),xx([0-9A-Fa-f]{2})\) (.{1,64})")
_OURS = frozenset({0x00080005, 0x00120062, 0x00120063, 0x00120064, 0x00280301, 0x00280302, 0x00280303})
_NEEDED = frozenset({
    0x00080016, 0x00080018, 0x0020000D, 0x0020000E, 0x00280002, 0x00280004, 0x00280010, 0x00280011, 0x00280100,
    0x00280101, 0x00280102, 0x00280103, 0x7FE00010,
})  # fmt: skip
"""Without these no object could leave: what it is, where it belongs, how its pixels are read."""
_CLEANED = frozenset({"DA", "DT", "TM", "LO", "SH", "LT", "ST", "UC", "UT", "SQ"})


def find(name: str, folder: Path) -> Path:
    """The file of the profile ``name`` in ``folder``; a path to a TOML file stands for itself.

    Raises
    ------
    Misconfigured
        There is none; the message lists those there are.
    """
    if name.endswith(".toml"):
        return Path(name)
    known = sorted(file.stem for file in folder.glob("*.toml"))
    if name not in known:
        raise Misconfigured(f"there is no profile {name!r}; choose from {', '.join(known) or 'none at all'}")
    return folder / f"{name}.toml"


def load(path: Path) -> Profile:
    """The profile in a TOML file; every key is optional.

    Raises
    ------
    Misconfigured
        The file cannot be read, has an unknown key or option, a tag that is not written as it should be, or an
        action that its attribute cannot have.
    """
    where = f"profile {path.name}"
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise Misconfigured(f"{where} cannot be read from {path.parent} ({error.strerror})") from error
    except ValueError as error:
        raise Misconfigured(f"{where} cannot be read: it is no TOML ({error})") from error
    for key in sorted(content.keys() - KEYS):
        raise Misconfigured(f"{where}: unknown key {key!r}")
    return Profile(
        name=_text(where, content, "name") or path.stem,
        options=options(_list(where, content, "options"), where),
        override=_table(where, content, "override", _override),
        issuer=_text(where, content, "issuer"),
        private=_table(where, content, "private", _private),
        words=frozenset(word.casefold() for word in _list(where, content, "words")),
    )


def options(names: list[str], where: str = "profile") -> frozenset[Option]:
    """The options of these names.

    Raises
    ------
    Misconfigured
        There is no such option; the message lists those there are.
    """
    for name in names:
        if name not in set(Option):
            raise Misconfigured(f"{where}: {name!r} is no option; choose from {', '.join(Option)}")
    return frozenset(map(Option, names))


def shown(profile: Profile) -> list[str]:
    """What happens to each attribute, as lines of fields separated by tabs, the first with their names.

    One action where it is the same in every kind of photograph, else one for each of
    :data:`~gateway.profiles.SOP_CLASSES`.
    """
    lines = [f"# profile {profile.name}; options: {', '.join(sorted(profile.options)) or 'none'}"]
    lines += ["tag\tattribute\taction\tsource"]
    lines += [
        "\t".join((written_tag(line.tag), line.name, action_of(line), line.source))
        for line in profile.describe()
    ]
    return lines


def written_tag(digits: str) -> str:
    """``(gggg,eeee)`` for eight digits, anything else as it is."""
    return f"({digits[:4]},{digits[4:]})" if len(digits) == 8 else digits


def action_of(line: Line) -> str:
    """One action where it is the same in every kind of photograph, else all of them."""
    return line.actions[0] if len(set(line.actions)) == 1 else " ".join(line.actions)


def _text(where: str, content: Mapping[str, object], key: str) -> str:
    value = content.get(key, "")
    if not isinstance(value, str):
        raise Misconfigured(f"{where}: {key} must be text")
    return value


def _list(where: str, content: Mapping[str, object], key: str) -> list[str]:
    value = content.get(key, [])
    if not (isinstance(value, list) and all(isinstance(part, str) for part in value)):
        raise Misconfigured(f"{where}: {key} must be a list of texts")
    return value


def _table(
    where: str, content: Mapping[str, object], key: str, entry: Callable[[str, str, object], tuple[K, V]]
) -> Mapping[K, V]:
    value = content.get(key, {})
    if not isinstance(value, dict):
        raise Misconfigured(f"{where}: {key} must be a table")
    return MappingProxyType(dict(entry(where, name, code) for name, code in value.items()))


def _override(where: str, key: str, code: object) -> tuple[int, Action]:
    match = _TAG.fullmatch(key)
    if match is None:
        raise Misconfigured(f'{where}: write tags as "(gggg,eeee)", not {key!r}')
    tag = int(match[1] + match[2], 16)
    if not isinstance(code, str) or code not in set(Action):
        raise Misconfigured(f"{where}: the action for {key} must be one of X, Z, D, K, C, U")
    if tag in _OURS or tag >> 16 in {0x0000, 0x0002}:
        raise Misconfigured(f"{where}: {key} is written by the gateway itself, and no exception changes it")
    action = Action(code)
    if tag in _NEEDED and action in {Action.REMOVE, Action.EMPTY, Action.DUMMY}:
        raise Misconfigured(
            f"{where}: {key} is needed in every object and cannot be removed, emptied or replaced"
        )
    known = not (tag >> 16) & 1 and dictionary_has_tag(tag)
    if action is not Action.REMOVE and not known:
        raise Misconfigured(f"{where}: {key} is private or unknown and can only be removed; see [private]")
    vr = dictionary_VR(tag) if known else "UN"
    if action is Action.CLEAN and vr not in _CLEANED:
        raise Misconfigured(f"{where}: C moves dates and cleans texts and sequences, and {key} is none")
    if action is Action.UID and vr != "UI":
        raise Misconfigured(f"{where}: U replaces UIDs, and {key} is none")
    return tag, action


def _private(where: str, key: str, vr: object) -> tuple[Private, str]:
    match = _PRIVATE.fullmatch(key)
    if match is None or not int(match[1], 16) & 1:
        raise Misconfigured(f'{where}: write private attributes as "(gggg,xxee) CREATOR", not {key!r}')
    if not isinstance(vr, str) or vr not in PRIVATE_VRS:
        raise Misconfigured(f"{where}: the VR of {key} must be one of {', '.join(sorted(PRIVATE_VRS))}")
    return Private(match[3], int(match[1], 16), int(match[2], 16)), vr
