"""A training's recipe: one table of a TOML file as a frozen dataclass, with the defaults of the code."""

import tomllib
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar

from inference.data import DataError

Recipe = TypeVar("Recipe")


class RecipeError(DataError):
    """The recipe cannot be followed; the message names the file and the key."""


def recipe(kind: type[Recipe], file: Path, table: str = "", **instead: Any) -> Recipe:
    """The table ``table`` of a TOML file (the whole file without one), missing keys by the dataclass's defaults.

    Parameters
    ----------
    kind
        A dataclass whose fields are the keys.
    instead
        Values that go before the file's; None leaves the file's.

    Raises
    ------
    RecipeError
        No TOML, an unknown key, or a value of another type than the default's.
    """
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RecipeError(
            f"{file} cannot be read as a TOML file; name a recipe, such as those in conf/training."
        ) from error
    values = dict(content.get(table, {}) if table else content)
    default: Any = kind()
    known = {field.name for field in fields(default)}
    if unknown := set(values) - known:
        raise RecipeError(f"{file.name} has unknown keys: {', '.join(sorted(unknown))}")
    for name, found in list(values.items()):
        wanted = getattr(default, name)
        value: Any = tuple(found) if isinstance(found, list) else found
        if isinstance(wanted, float) and type(value) is int:
            value = float(value)
        if type(value) is not type(wanted):
            raise RecipeError(f"{file.name}: {name} must be like {wanted!r}, not {value!r}")
        values[name] = value
    values |= {name: value for name, value in instead.items() if value is not None and name in known}
    made: Recipe = replace(default, **values)
    return made
