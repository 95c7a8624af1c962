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
    size_px = 256                        # optional: side of the square a picture is fitted into, a multiple of 32
    features = ["brow", "eye", "nose", "mouth"]
    [segmenter.roles]                    # one line a class, in the order of the model's channels
    skin = "identity"                    # identity | lesion | context

    [inpainter]
    kind = "diffusers"
    folder = "inpainter"
    steps = 20
    guidance = 1.0                       # 1 or less: without guidance, one question to the UNet a step
    scheduler = "dpmsolver++"            # optional: dpmsolver++ | unipc; without it, as the pipeline was saved
    reuse = 1                            # optional: the UNet's deep layers are computed every so many steps

    [faces]
    kind = "insightface"
    folder = "faces"
    threshold = 0.5                      # least score of a face
    doubt = 0.3                          # optional: least score of what may be a face, and then holds the picture
    similarity_limit = 0.3               # calibrated: cosine at the chosen false acceptance rate
    similarity_margin = 0.1              # optional: so far below it two persons are clearly others
    looks = 1                            # optional: moved looks at a face, 1-5, that an embedding is the mean of
    [faces.second]                       # optional: an independent face pack; the strictest decides
    folder = "second"
    similarity_limit = 0.3               # similarity_margin and looks as above

    [prompts]
    default = "…"
    template = "… {disease}"             # optional: for a disease that has no line of its own
    psoriasis = "…"                      # optional, one line a disease

    [evaluation]                         # optional: limits of a sign-off (inference.evaluate.signing.Wanted)
    [sign_off]                           # optional: written by build and sign-off (inference.signoff)

    [files]                              # every file of the bundle, relative, with its SHA-256
    "segmenter/model.safetensors" = "…"
"""

import hashlib
import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

ROLES = frozenset({"identity", "lesion", "context"})
SCHEDULERS = ("dpmsolver++", "unipc")
FACE_LIMITS = ("threshold", "similarity_limit")
CONFIRMING = ("eye", "nose", "mouth")
"""Features by which a face that a detector found is confirmed (:func:`inference.regions.agreement`)."""
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
        Prompt per disease; ``""`` is the default, ``"template"`` the one for other diseases.
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

    def wordings(self) -> list[str]:
        """Every prompt that the manifest spells out."""
        return [prompt for disease, prompt in self.prompts.items() if disease != "template"]

    @property
    def classes(self) -> tuple[str, ...]:
        """The segmenter's classes in the order of its channels."""
        return tuple(self.roles)

    @property
    def size_px(self) -> int:
        """Side of the segmenter's square input."""
        return int(self.segmenter.get("size_px", 256))

    @property
    def sampling(self) -> dict[str, Any]:
        """How the inpainter samples: ``steps``, ``guidance``, ``scheduler`` and ``reuse``."""
        return {
            "steps": int(self.inpainter["steps"]),
            "guidance": float(self.inpainter["guidance"]),
            "scheduler": str(self.inpainter.get("scheduler", "")),
            "reuse": int(self.inpainter.get("reuse", 1)),
        }


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
            files=MappingProxyType(dict(raw.get("files", {}))),
        )
        faults = list(_faults(bundle))
        _ = [float(bundle.faces[key]) for key in FACE_LIMITS]
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(
            f"{path} lacks or misspells the key {error}; see inference/bundle.py for the layout."
        ) from error
    if faults:
        raise BundleError(f"{path}: {faults[0]}.")
    return bundle


def _faults(bundle: Bundle) -> Iterator[str]:
    """What the manifest asks for and cannot have, one sentence each, worst first."""
    unknown = sorted(set(bundle.roles.values()) - ROLES)
    if unknown:
        yield f"unknown roles {unknown}; roles are {', '.join(sorted(ROLES))}"
    shown = [name for name in bundle.segmenter["features"] if bundle.roles.get(name) == "identity"]
    lacking = [name for name in CONFIRMING if name not in shown]
    if lacking:
        yield (
            f"the segmenter has no {', '.join(lacking)} among its features of role identity, and without them no "
            "face can be confirmed; name its classes so in [segmenter.roles] and features, or use another segmenter"
        )
    if set(bundle.segmenter["features"]) - set(shown):
        yield "every feature of the segmenter needs a line in [segmenter.roles] that says identity"
    if "lesion" not in bundle.roles.values():
        yield "no class of the segmenter has the role lesion, so that no lesion would stay as photographed"
    if bundle.size_px <= 0 or bundle.size_px % 32:
        yield f"[segmenter] size_px is {bundle.size_px}, and has to be a multiple of 32"
    sampling = bundle.sampling
    if sampling["steps"] < 1 or sampling["reuse"] < 1 or not sampling["guidance"] >= 0:
        yield "[inpainter] steps and reuse have to be 1 or more, guidance 0 or more"
    if sampling["scheduler"] not in ("", *SCHEDULERS):
        yield f"[inpainter] scheduler is {sampling['scheduler']!r}, and has to be {' or '.join(SCHEDULERS)}"
    for table in (bundle.faces, bundle.faces.get("second", {})):
        if not 0 <= float(table.get("similarity_margin", 0)) < 1:
            yield "[faces] similarity_margin has to lie between 0 and 1"
        if table.get("looks", 1) not in range(1, 6):
            yield "[faces] looks has to be a whole number from 1 to 5"
    if "" not in bundle.prompts:
        yield "[prompts] needs 'default'"
    if "template" in bundle.prompts and "{disease}" not in bundle.prompts["template"]:
        yield "[prompts] template needs {disease} where the name of the disease belongs"


def verify(bundle: Bundle, only: str = "") -> None:
    """Compare every file with its digest; with ``only`` (``"faces"``) those of that part alone.

    Raises
    ------
    BundleError
        A file is missing, was changed, or is not listed, or a part has none; or the face limits are not set.
    """
    present = {path.relative_to(bundle.folder).as_posix() for path in weight_files(bundle.folder)}
    asked = present | set(bundle.files)
    if only:
        asked = {name for name in asked if _belongs(name, bundle, only)}
    for name in sorted(asked):
        if name not in bundle.files:
            raise BundleError(
                f"{bundle.folder}: {name} is not listed in {MANIFEST}; a bundle holds only listed files."
            )
        if name not in present or digest(bundle.folder / name) != bundle.files[name]:
            raise BundleError(
                f"{bundle.folder}: {name} is missing or is not the file that {MANIFEST} lists; fetch it again."
            )
    asked_for = [*FACE_LIMITS, *({"doubt"} & set(bundle.faces))]
    limits = [(f"[faces] {key}", bundle.faces[key]) for key in asked_for]
    if "second" in bundle.faces:
        key = "similarity_limit"
        limits.append((f"[faces.second] {key}", bundle.faces["second"].get(key, "missing")))
    for name, limit in limits:
        if not (isinstance(limit, int | float) and 0 < limit < 1):
            raise BundleError(
                f"{bundle.folder}: {name} is {limit}, and has to lie between 0 and 1; calibrate it."
            )
    for part, table in (
        ("segmenter", bundle.segmenter),
        ("inpainter", bundle.inpainter),
        ("faces", bundle.faces),
    ):
        if not any(name.startswith(f"{table['folder']}/") for name in bundle.files):
            raise BundleError(
                f"{bundle.folder}: the {part} is not there yet; import it, see gateway-models --help."
            )


def part_files(bundle: Bundle, part: str) -> dict[str, str]:
    """SHA-256 per file of one part (``"segmenter"``)."""
    return {name: value for name, value in bundle.files.items() if _belongs(name, bundle, part)}


def part_digest(bundle: Bundle, part: str) -> str:
    """SHA-256, hexadecimal, of what a part does: its files' digests and its table of the manifest."""
    what = [dict(getattr(bundle, part)), part_files(bundle, part)]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def _belongs(name: str, bundle: Bundle, part: str) -> bool:
    return name.startswith(f"{getattr(bundle, part)['folder']}/")


def weight_files(folder: Path) -> list[Path]:
    """Every file that must be listed: all but the manifest and the pages for people."""
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST and p.suffix != ".md")


def digest(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def contents(path: Path) -> str:
    """Digest of a file; of a folder, that of all files in it and their names, without hidden ones, hexadecimal."""
    if not path.is_dir():
        return digest(path)
    found = hashlib.sha256()
    for file in sorted(path.rglob("*")):
        name = file.relative_to(path)
        if file.is_file() and not any(part.startswith(".") for part in name.parts):
            found.update(f"{name.as_posix()} {digest(file)}\n".encode())
    return found.hexdigest()


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
