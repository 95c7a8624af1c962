"""Documented keys: what a section of the configuration may hold, and how text or TOML becomes its values.

A section is a frozen dataclass whose fields are made by `key`. Keys that a section does not have are errors.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import Field, dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

from gateway.errors import Misconfigured
from gateway.objects import storage_classes

PREFIX = "ANOSKIN_"
T = TypeVar("T")
PERHAPS_PATH = Path | None
WORDS: Mapping[object, str] = {
    int: "a whole number",
    float: "a number",
    str: "text",
    Path: "a path",
    PERHAPS_PATH: "a path, or nothing",
}


def key(
    meaning: str,
    default: object,
    *,
    within: tuple[float, float] = (-math.inf, math.inf),
    kind: Literal["plain", "ae", "environment", "objects", "optional"] = "plain",
    secret: bool = False,
) -> Any:
    """One documented key of a section.

    Parameters
    ----------
    meaning
        One sentence for the operator.
    default
        Its value when it is not given; an ``ae`` key whose default is empty must be given.
    within
        Inclusive bounds of a number.
    kind
        ``"ae"`` is an AE title (PS3.5 6.2); ``"environment"`` may not stand in a file; ``"objects"`` are storage SOP
        classes by their keywords (PS3.6), none of them too; ``"optional"`` is a list that may be empty.
    secret
        Keep the value out of every representation.
    """
    return field(
        default=default,
        repr=not secret,
        metadata={"meaning": meaning, "within": within, "kind": kind},
    )


@dataclass(frozen=True, slots=True)
class Source:
    """Where values come from.

    Attributes
    ----------
    name
        What the operator calls the file, for messages.
    folder
        Relative paths start here.
    environ
        ``ANOSKIN_<SECTION>_<KEY>`` overrides the file.
    """

    name: str
    folder: Path
    environ: Mapping[str, str]

    def section(self, kind: type[T], title: str, given: object) -> T:
        """``given``, one parsed section of the file, as a ``kind``.

        Raises
        ------
        Misconfigured
            An unknown key, or a value its key does not take.
        """
        if not isinstance(given, dict):
            raise Misconfigured(f"{self.name}: {title} is a section; write [{title}].")
        return kind(**self._values(kind, title, given))

    def check_sections(self, sections: Iterable[str]) -> None:
        """Return in silence where every variable that names a section names one that there is.

        Raises
        ------
        Misconfigured
            One does not: what it was meant to change would stay as it is.
        """
        starts = tuple(f"{PREFIX}{name}_".upper() for name in sections)
        for variable in sorted(self.environ):
            # With one word only, it is no key of a section: ANOSKIN_DATA is where tests find their data.
            named = variable.startswith(PREFIX) and "_" in variable.removeprefix(PREFIX)
            if named and not variable.startswith(starts):
                raise Misconfigured(f"{variable} names no section of the configuration; unset it.")

    def _values(self, kind: type, title: str, given: Mapping[str, object]) -> dict[str, object]:
        specs = {spec.name: spec for spec in fields(kind)}
        for unknown in sorted(given.keys() - specs.keys()):
            raise Misconfigured(f"{self.name}: [{title}] has no key {unknown}; {instead(unknown, specs)}")
        overrides = self._overrides(title, specs)
        bound: dict[str, object] = {}
        for name, spec in specs.items():
            variable = f"{PREFIX}{title}_{name}".upper()
            where = f"{self.name}: [{title}] {name}"
            if name in overrides:
                value, where = parsed(spec, overrides[name], variable), variable
            elif name in given:
                if spec.metadata["kind"] == "environment":
                    raise Misconfigured(f"{where} is a secret; give it as {variable} instead.")
                value = given[name]
            else:
                value = spec.default
            bound[name] = checked(spec, value, where, self.folder)
        return bound

    def _overrides(self, title: str, specs: Mapping[str, object]) -> dict[str, str]:
        start = f"{PREFIX}{title.upper()}_"
        found = {
            variable.removeprefix(start).lower(): text
            for variable, text in self.environ.items()
            if variable.startswith(start)
        }
        for unknown in sorted(found.keys() - specs.keys()):
            raise Misconfigured(f"{start}{unknown.upper()}: [{title}] has no key {unknown}; unset it.")
        return found


def instead(unknown: str, known: Iterable[str]) -> str:
    """What to do about a name that does not exist."""
    near = get_close_matches(unknown, known, n=1)
    return f"did you mean {near[0]}?" if near else "remove it."


def parsed(spec: "Field[Any]", text: str, where: str) -> object:
    """The text of an environment variable as the type of its key.

    Raises
    ------
    Misconfigured
        The text is not of that type.
    """
    try:
        if spec.type is bool:
            return {"true": True, "false": False}[text.lower()]
        if spec.type is int:
            return int(text)
        if spec.type is float:
            return float(text)
    except (KeyError, ValueError) as error:
        raise Misconfigured(f"{where} takes {takes(spec)}.") from error
    return [p for part in text.split(",") if (p := part.strip())] if get_origin(spec.type) is tuple else text


def checked(spec: "Field[Any]", value: Any, where: str, folder: Path) -> object:
    """``value`` as its key wants it; paths become absolute, lists become tuples.

    Raises
    ------
    Misconfigured
        The key does not take this value; the message says what it takes.
    """
    if spec.type is float and type(value) is int:
        value = float(value)
    if spec.type == PERHAPS_PATH and value in (None, ""):
        return None
    if not _fits(spec, value):
        raise Misconfigured(f"{where} takes {takes(spec)}.")
    if spec.type in (Path, PERHAPS_PATH):
        return (folder / Path(value).expanduser()).resolve()
    return tuple(value) if isinstance(value, list) else value


def _fits(spec: "Field[Any]", value: Any) -> bool:  # noqa: PLR0911 - one a kind of value
    if spec.type in (Path, PERHAPS_PATH):
        return isinstance(value, str | Path) and bool(str(value))
    if get_origin(spec.type) is tuple:
        if not isinstance(value, list | tuple):
            return False
        kind = spec.metadata["kind"]
        may_be_empty = kind in {"objects", "optional"}
        choices = storage_classes() if kind == "objects" else get_args(get_args(spec.type)[0])
        # No choices: any text will do.
        right = choices.__contains__ if choices else lambda part: type(part) is str and bool(part)
        return (may_be_empty or bool(value)) and all(map(right, value))
    if get_origin(spec.type) is Literal:
        return type(value) is str and value in get_args(spec.type)
    if type(value) is not spec.type:  # and not isinstance: a bool is no number here
        return False
    low, high = spec.metadata["within"]
    if spec.type in (int, float) and not low <= value <= high:
        return False
    return spec.metadata["kind"] != "ae" or _is_ae_title(value)


def _is_ae_title(value: str) -> bool:
    """PS3.5 6.2: 1 to 16 characters of the default repertoire, no backslash, not only spaces."""
    return 0 < len(value.strip()) <= len(value) <= 16 and all(" " <= c <= "~" and c != "\\" for c in value)


def takes(spec: "Field[Any]") -> str:
    """What one key takes, in words."""
    if get_origin(spec.type) is Literal:
        return " or ".join(f'"{choice}"' for choice in get_args(spec.type))
    if get_origin(spec.type) is tuple:
        if spec.metadata["kind"] == "objects":
            return "a list of storage SOP classes, by their keywords in PS3.6"
        choices = ", ".join(f'"{choice}"' for choice in get_args(get_args(spec.type)[0]))
        return f"a list of {choices or 'texts'}"
    if spec.type is bool or spec.metadata["kind"] == "ae":
        return "true or false" if spec.type is bool else "an AE title of 1 to 16 characters"
    low, high = spec.metadata["within"]
    if math.isfinite(high):
        return f"{WORDS[spec.type]} from {low:g} to {high:g}"
    return f"{WORDS[spec.type]}, {low:g} or more" if math.isfinite(low) else WORDS[spec.type]


def table(kind: type, title: str, *, repeated: bool = False) -> str:
    """One section as Markdown: its promise and a row for each key."""
    heading = f"[[{title}]]" if repeated else f"[{title}]"
    lines = [f"## {heading}", "", (kind.__doc__ or "").splitlines()[0], ""]
    lines += ["| key | takes | default | meaning | environment |", "|---|---|---|---|---|"]
    for spec in fields(kind):
        variable = "" if repeated else f"`{PREFIX}{title}_{spec.name}`".upper()
        cells = (f"`{spec.name}`", takes(spec), _shown(spec.default), spec.metadata["meaning"], variable)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _shown(default: object) -> str:
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, tuple):
        return "`" + ", ".join(default) + "`" if default else "–"
    return "–" if default is None or str(default) == "" else f"`{default}`"
