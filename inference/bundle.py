"""A model bundle: a folder with ``bundle.toml`` that names every file, its digest, its role and its licence.

``bundle.toml`` (all keys needed unless marked)::

    name = "nano"                        # for markers, reports and tables
    version = "1"
    demonstration = true                 # production refuses it unless allowed
    licence = "Apache-2.0"
    provenance = "one sentence"

    [segmenter]                          # kind, folder, and what its classes mean
    kind = "pointrend"
    folder = "segmenter"
    features = ["brow", "eye", "nose", "mouth"]
    [segmenter.roles]
    skin = "identity"                    # identity | lesion | context, one line a class

    [inpainter]
    kind = "diffusers"
    folder = "inpainter"
    steps = 20
    guidance = 1.0

    [faces]
    kind = "insightface"
    folder = "faces"
    threshold = 0.5                      # least score of a face
    similarity_limit = 0.3               # calibrated: cosine at the chosen false acceptance rate

    [prompts]
    default = "…"
    psoriasis = "…"                      # optional, one line a disease

    [files]                              # every file of the bundle, relative, with its SHA-256
    "segmenter/model.safetensors" = "…"
"""

import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

ROLES = frozenset({"identity", "lesion", "context"})
MANIFEST = "bundle.toml"


class BundleError(Exception):
    """The bundle cannot be used; the message says what is wrong and what to do."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """A verified bundle's manifest.

    Attributes
    ----------
    folder
        Where it lies.
    name, version, licence, provenance
        As the manifest says.
    demonstration
        For trying and testing only.
    segmenter, inpainter, faces
        The manifest's tables of the three parts.
    roles
        Role of each class of the segmenter.
    prompts
        Prompt per disease; ``""`` is the default.
    files
        SHA-256 per file, relative to the folder.
    """

    folder: Path
    name: str
    version: str
    licence: str
    provenance: str
    demonstration: bool
    segmenter: Mapping[str, Any]
    inpainter: Mapping[str, Any]
    faces: Mapping[str, Any]
    roles: Mapping[str, str]
    prompts: Mapping[str, str]
    files: Mapping[str, str]

    @property
    def title(self) -> str:
        """Name and version, as markers and reports carry it."""
        return f"{self.name} {self.version}"


def read_bundle(folder: Path) -> Bundle:
    """Read the manifest of a bundle folder; :func:`verify` then compares the files.

    Raises
    ------
    BundleError
        The folder or a key is missing, or a role is unknown.
    """
    path = folder / MANIFEST
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BundleError(
            f"No model bundle at {folder}: {MANIFEST} cannot be read. Set [models] bundle to a bundle's folder."
        ) from error
    except tomllib.TOMLDecodeError as error:
        raise BundleError(
            f"{path} is not valid TOML ({error}); correct it or fetch the bundle again."
        ) from error
    try:
        roles = dict(raw["segmenter"]["roles"])
        prompts = dict(raw["prompts"])
        bundle = Bundle(
            folder=folder,
            name=str(raw["name"]),
            version=str(raw["version"]),
            licence=str(raw["licence"]),
            provenance=str(raw["provenance"]),
            demonstration=bool(raw["demonstration"]),
            segmenter=MappingProxyType(raw["segmenter"]),
            inpainter=MappingProxyType(raw["inpainter"]),
            faces=MappingProxyType(raw["faces"]),
            roles=MappingProxyType(roles),
            prompts=MappingProxyType(
                {"" if key == "default" else key: text for key, text in prompts.items()}
            ),
            files=MappingProxyType(dict(raw["files"])),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(
            f"{path} lacks or misspells the key {error}; see inference/bundle.py for the layout."
        ) from error
    unknown = set(roles.values()) - ROLES
    if unknown or "" not in bundle.prompts:
        what = f"unknown roles {sorted(unknown)}" if unknown else "no default prompt"
        raise BundleError(f"{path}: {what}; roles are {', '.join(sorted(ROLES))}, [prompts] needs 'default'.")
    return bundle


def verify(bundle: Bundle) -> None:
    """Compare every file with its digest.

    Raises
    ------
    BundleError
        A file is missing, was changed, or is not listed.
    """
    present = {path.relative_to(bundle.folder).as_posix() for path in weight_files(bundle.folder)}
    for name in sorted(present | set(bundle.files)):
        if name not in bundle.files:
            raise BundleError(
                f"{bundle.folder}: {name} is not listed in {MANIFEST}; a bundle holds only listed files."
            )
        if name not in present or digest(bundle.folder / name) != bundle.files[name]:
            raise BundleError(
                f"{bundle.folder}: {name} is missing or is not the file that {MANIFEST} lists; fetch it again."
            )


def weight_files(folder: Path) -> list[Path]:
    """Every file that must be listed: all but the manifest and the pages for people."""
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST and p.suffix != ".md")


def digest(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def seal(folder: Path) -> Bundle:
    """List every file of the bundle with its present digest in its manifest; the rest of the manifest stays.

    Raises
    ------
    BundleError
        There is no manifest to complete, or it lacks a key.
    """
    path = folder / MANIFEST
    try:
        head, _, _ = path.read_text(encoding="utf-8").partition("\n[files]\n")
    except OSError as error:
        raise BundleError(
            f"{path} cannot be read; write it first, its layout is in inference/bundle.py."
        ) from error
    lines = [f'"{f.relative_to(folder).as_posix()}" = "{digest(f)}"' for f in weight_files(folder)]
    path.write_text("\n".join([head.rstrip(), "", "[files]", *lines, ""]), encoding="utf-8")
    return read_bundle(folder)
