"""Whether a bundle was evaluated and found good enough: the last word of ``bundle.toml`` before its files.

``gateway-models build`` and ``sign-off`` write it::

    [sign_off]
    signed = true
    reason = ""                          # why it was not signed
    date = "2026-11-25"
    bundle = "…"                         # SHA-256 of everything else in the manifest, digests of files included

A signature is void as soon as the manifest or a listed file changes. It says that limits were met, not who met them.
"""

import hashlib
import json
import re
import tomllib
from datetime import date
from pathlib import Path
from typing import Any

from inference.bundle import MANIFEST, Bundle, BundleError, seal

TABLE = "sign_off"
NEVER = "it was never evaluated"
UNSEEN = "it was put together and not evaluated yet"


def sign(folder: Path, reason: str, day: date) -> Bundle:
    """Sign the bundle off, or with a ``reason`` write why not; an earlier word on it goes.

    Raises
    ------
    BundleError
        There is no manifest, or it lacks a key.
    """
    path = folder / MANIFEST
    seal(folder)
    head, _, files = path.read_text(encoding="utf-8").rpartition("\n[files]\n")
    bare = _without(head)
    path.write_text(f"{bare}\n\n[files]\n{files}", encoding="utf-8")
    said = [
        f"[{TABLE}]",
        f"signed = {'false' if reason else 'true'}",
        f"reason = {json.dumps(reason, ensure_ascii=False)}",
        f'date = "{day.isoformat()}"',
        f'bundle = "{_digest(path)}"',
    ]
    path.write_text("\n".join([bare, "", *said, "", "[files]", files]), encoding="utf-8")
    return seal(folder)


def objection(bundle: Bundle) -> str:
    """Why this bundle may not treat photographs, one clause; empty where nothing is said against it.

    A demonstration that nobody evaluated is judged by what it is: a demonstration. Every other bundle needs a
    signature that is still true.

    Raises
    ------
    BundleError
        The manifest cannot be read any more.
    """
    path = bundle.folder / MANIFEST
    said = _raw(path).get(TABLE)
    if said is None:
        return "" if bundle.demonstration else NEVER
    if not isinstance(said, dict) or said.get("signed") is not True:
        reason = said.get("reason") if isinstance(said, dict) else ""
        return str(reason or "its sign-off says no")
    if said.get("bundle") != _digest(path):
        return "it was changed after it was signed off"
    return ""


def _without(head: str) -> str:
    """The manifest's text before the files, without the table of an earlier word."""
    return re.sub(rf"^\[{TABLE}\]\n[^\[]*", "", head, flags=re.MULTILINE).rstrip()


def _digest(path: Path) -> str:
    raw = {name: value for name, value in _raw(path).items() if name != TABLE}
    return hashlib.sha256(json.dumps(raw, sort_keys=True, default=str).encode()).hexdigest()


def _raw(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise BundleError(f"{path} cannot be read; fetch or build the bundle again.") from error
