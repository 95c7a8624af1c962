"""One frozen ``Settings`` from ``conf/gateway.toml`` and the environment; the only reader of either.

Every key is a field here, with its meaning, default and bounds; ``docs/settings.md`` is made from them. A key
this module does not know is an error. ``ANOSKIN_<SECTION>_<KEY>`` overrides any key, and is where secrets
belong. Relative paths start at the folder of the configuration file.
"""
# ruff: noqa: RUF009 - key() gives a dataclass field, which is made for each class anew

import math
import os
import tomllib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from pydicom.uid import UID

from gateway import keys, objects
from gateway.errors import Misconfigured
from gateway.keys import PREFIX, key
from gateway.objects import Treatment

KEY_BYTES = 32
SHIPPED = Path(__file__).with_name("shipped")
"""The profiles that come with the program."""


@dataclass(frozen=True, slots=True)
class Listener:
    """How clinical systems reach the gateway (PS3.8)."""

    ae_title: str = key("Own AE title; senders must call it by this name.", "ANOSKIN", kind="ae")
    host: str = key("Address to listen on.", "127.0.0.1")
    port: int = key("TCP port; 0 takes a free one.", 11112, within=(0, 65535))
    max_associations: int = key("Associations served at the same time.", 8, within=(1, math.inf))
    max_pdu: int = key("Largest PDU accepted, in bytes; 0 sets no limit.", 131072, within=(0, math.inf))
    max_object_mb: int = key(
        "Largest object accepted, in MiB, deflated objects inflated.", 2048, within=(1, math.inf)
    )
    timeout_s: float = key(
        "Seconds of silence after which an association is ended.", 60.0, within=(1, math.inf)
    )
    accept_any_peer: bool = key("Accept senders that are not listed under [[peers]].", False)


@dataclass(frozen=True, slots=True)
class Peer:
    """One system that may send."""

    ae_title: str = key("Calling AE title.", "", kind="ae")
    host: str = key("Address it must come from; empty: any.", "")


@dataclass(frozen=True, slots=True)
class Spool:
    """Where the photographs lie: originals until retired, clean files until retired."""

    folder: Path = key("Folder of the spool, on a local disk.", Path("../state/spool"))
    reserve_mb: int = key(
        "Free space, in MiB, below which nothing more is accepted.", 1024, within=(0, math.inf)
    )


@dataclass(frozen=True, slots=True)
class Ledger:
    """Where the gateway remembers: one row per instance, the durable workflows, the audit trail."""

    folder: Path = key("Folder of ledger, workflows and audit trail.", Path("../state"))
    url: str = key("SQLAlchemy URL of the ledger; empty: SQLite in the folder.", "", secret=True)


@dataclass(frozen=True, slots=True)
class Arrival:
    """When the instances of a study become one arrival."""

    quiet_s: float = key(
        "Seconds without a new instance after which a study is treated.", 30.0, within=(0, math.inf)
    )


@dataclass(frozen=True, slots=True)
class Archive:
    """Where the clean objects go."""

    ae_title: str = key("AE title of the archive.", "ARCHIVE", kind="ae")
    host: str = key("Its address.", "127.0.0.1")
    port: int = key("Its TCP port.", 4242, within=(1, 65535))
    calling_ae_title: str = key("AE title the gateway calls itself there.", "ANOSKIN", kind="ae")
    transfer_syntaxes: tuple[Literal["jpeg-ls", "jpeg2000", "explicit"], ...] = key(
        "Lossless encodings it accepts for edited objects, best first.", ("jpeg-ls", "jpeg2000", "explicit")
    )
    timeout_s: float = key("Seconds to wait for its answer.", 60.0, within=(1, math.inf))
    max_refusals: int = key(
        "Definite refusals of one object after which it is held.", 3, within=(1, math.inf)
    )
    initial_s: float = key("Back-off before the second attempt, in seconds.", 5.0, within=(0.1, math.inf))
    factor: float = key("Growth of the back-off from attempt to attempt.", 2.0, within=(1, math.inf))
    max_s: float = key("Longest back-off, in seconds.", 900.0, within=(0.1, math.inf))


@dataclass(frozen=True, slots=True)
class Pseudonyms:
    """The secret that makes pseudonyms repeatable here and unguessable elsewhere."""

    key_file: Path = key("File with the key: 32 bytes or more, mode 0600.", Path("../state/pseudonym.key"))
    key: str = key(
        "The key itself, 64 or more hexadecimal digits; environment only.",
        "",
        kind="environment",
        secret=True,
    )

    def secret(self) -> bytes:
        """The key, from the environment or else from its file.

        Raises
        ------
        Misconfigured
            There is no key, it is too short, or others may read its file.
        """
        return _secret("pseudonyms", self.key, self.key_file)


@dataclass(frozen=True, slots=True)
class Crosswalk:
    """Whether originals are kept beside their pseudonyms, encrypted, for those who may re-identify."""

    enabled: bool = key("Keep them; needs the extra crosswalk.", False)
    url: str = key("SQLAlchemy URL of the table; empty: SQLite in the ledger's folder.", "", secret=True)
    key_file: Path = key(
        "File with the key that seals it: 32 bytes or more, mode 0600.", Path("../state/crosswalk.key")
    )
    key: str = key(
        "The key itself, 64 or more hexadecimal digits; environment only.",
        "",
        kind="environment",
        secret=True,
    )

    def secret(self) -> bytes:
        """The key, from the environment or else from its file.

        Raises
        ------
        Misconfigured
            There is no key, it is too short, or others may read its file.
        """
        return _secret("crosswalk", self.key, self.key_file)


def _secret(section: str, given: str, file: Path) -> bytes:
    variable = f"{PREFIX}{section.upper()}_KEY"
    if given:
        try:
            found = bytes.fromhex(given)
        except ValueError as error:
            raise Misconfigured(f"{variable} is not hexadecimal.") from error
        where = variable
    else:
        where = str(file)
        try:
            if file.stat().st_mode & 0o077:
                raise Misconfigured(f"{where} can be read by others; run: chmod 600 {where}")
            found = file.read_bytes()
        except OSError as error:
            raise Misconfigured(f"{where} cannot be read ({error.strerror}); run: gateway init") from error
    if len(found) < KEY_BYTES:
        raise Misconfigured(f"{where} holds {len(found)} bytes; a key has {KEY_BYTES} or more.")
    return found


@dataclass(frozen=True, slots=True)
class Profile:
    """What happens to each attribute (PS3.15 Annex E)."""

    file: Path = key("The de-identification profile.", Path("profiles/basic.toml"))


@dataclass(frozen=True, slots=True)
class Objects:
    """What happens to each kind of object (SOP class); what is named nowhere is not received, and refused offline."""

    treat: tuple[str, ...] = key(
        "Kinds whose metadata and pixels are treated.", objects.PHOTOGRAPHS, kind="objects"
    )
    metadata_only: tuple[str, ...] = key(
        "Kinds whose metadata alone is treated; their pixels pass as they are, and say so.",
        (),
        kind="objects",
    )
    refuse: tuple[str, ...] = key(
        "Kinds that are received and refused, so that the rest of their study can come.",
        objects.COMPANIONS,
        kind="objects",
    )

    limit_s: float = key(
        "Offline: seconds after which the treatment of an object is given up.", 600.0, within=(1, math.inf)
    )

    def __post_init__(self) -> None:
        named = Counter([*self.treat, *self.metadata_only, *self.refuse])
        for keyword in sorted(keyword for keyword, times in named.items() if times > 1):
            raise Misconfigured(f"[objects] names {keyword} twice; leave it in one list.")

    def received(self) -> Mapping[UID, Treatment]:
        """What happens to each kind that is received."""
        lists = {
            Treatment.TREAT: self.treat,
            Treatment.METADATA_ONLY: self.metadata_only,
            Treatment.REFUSE: self.refuse,
        }
        classes = objects.storage_classes()
        return {classes[keyword]: treatment for treatment, kinds in lists.items() for keyword in kinds}

    def treatment(self, sop_class: str) -> Treatment:
        """What happens to one kind; what is not named is refused."""
        return self.received().get(UID(sop_class), Treatment.REFUSE)


@dataclass(frozen=True, slots=True)
class Pixels:
    """What happens to faces, lesions and burned-in text."""

    lesion_over_features: Literal["hide", "keep", "hold"] = key(
        "A lesion that itself covers eyes, nose or mouth: hide it, keep it, or hold the instance.", "hold"
    )
    keep_margin: float = key("Lesions grow by this fraction of the face's width.", 0.02, within=(0, 1))
    hide_margin: float = key("Hidden regions grow by this fraction of it.", 0.25, within=(0, 1))
    keep_most: float = key("Largest share of a hidden region that is kept as lesion.", 0.2, within=(0, 1))
    attempts: int = key(
        "Paintings made at most, for one that is clearly another person; the least similar is taken.",
        6,
        within=(1, math.inf),
    )
    text: Literal["hold", "paint", "ignore"] = key(
        "Text in the pixels: hold the instance, paint the text out and read again, or ignore it.", "hold"
    )
    allowed_text: tuple[str, ...] = key(
        "Texts that may stay besides sides and scale bars: regular expressions of whole texts.",
        (),
        kind="optional",
    )
    masks: Path = key(
        "Folder of masks that people drew for single objects; it need not exist.", Path("../masks")
    )
    disease: str = key(
        "Disease that the photographs show; it chooses the bundle's words for the painter.", ""
    )
    prompt: str = key("Words for the painter in place of the bundle's; {disease} stands for the disease.", "")


@dataclass(frozen=True, slots=True)
class Models:
    """Which models look and paint, and where they run."""

    bundle: Path = key("Folder of the model bundle.", Path("../bundles/nano"))
    engine: Literal["local", "triton"] = key(
        "Where segmenter and inpainter run: in this process, or on the servers of [triton].", "local"
    )
    threads: int = key("Threads of one model call; 0: as many as there are cores.", 0, within=(0, math.inf))
    device: str = key(
        "Where they are computed: auto (a GPU where there is one), cpu, cuda or cuda:1.", "auto"
    )
    compile: bool = key("Compile the inpainter at the start; on a GPU it then runs in CUDA graphs.", False)
    in_flight: int = key("Arrivals treated at the same time.", 1, within=(1, math.inf))
    allow_demonstration_models: bool = key("Let a demonstration bundle treat photographs.", False)


@dataclass(frozen=True, slots=True)
class Triton:
    """The servers of ``engine = "triton"``; they serve the bundle that ``[models] bundle`` names."""

    endpoints: tuple[str, ...] = key("host:port of each server's gRPC service.", ("127.0.0.1:8001",))
    deadline_s: float = key("Longest wait for one answer, in seconds.", 60.0, within=(1, math.inf))
    shared_memory: bool = key("Hand pictures to servers on this machine through shared memory.", True)
    tls_ca: Path | None = key(
        "PEM file of the authority that signed the servers' certificates; empty: no TLS.", None
    )

    def certificate(self) -> bytes | None:
        """The authority's certificate; ``None`` without TLS.

        Raises
        ------
        Misconfigured
            Its file cannot be read.
        """
        try:
            return None if self.tls_ca is None else self.tls_ca.read_bytes()
        except OSError as error:
            raise Misconfigured(
                f"[triton] tls_ca: {self.tls_ca} cannot be read ({error.strerror})."
            ) from error


@dataclass(frozen=True, slots=True)
class Retention:
    """How long files stay after the archive has them; what is held or refused stays."""

    originals_days: float = key("Days an original stays after it was forwarded.", 7.0, within=(0, math.inf))
    clean_days: float = key("Days a clean file stays after it was forwarded.", 7.0, within=(0, math.inf))


@dataclass(frozen=True, slots=True)
class Log:
    """What the gateway tells about itself."""

    format: Literal["json", "console"] = key("Lines for machines or for people.", "json")
    level: Literal["debug", "info", "warning", "error"] = key("Least important event shown.", "info")


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything the operator decides; see each section."""

    listener: Listener = field(default_factory=Listener)
    peers: tuple[Peer, ...] = ()
    spool: Spool = field(default_factory=Spool)
    ledger: Ledger = field(default_factory=Ledger)
    arrival: Arrival = field(default_factory=Arrival)
    archive: Archive = field(default_factory=Archive)
    pseudonyms: Pseudonyms = field(default_factory=Pseudonyms)
    crosswalk: Crosswalk = field(default_factory=Crosswalk)
    profile: Profile = field(default_factory=Profile)
    objects: Objects = field(default_factory=Objects)
    pixels: Pixels = field(default_factory=Pixels)
    models: Models = field(default_factory=Models)
    triton: Triton = field(default_factory=Triton)
    retention: Retention = field(default_factory=Retention)
    log: Log = field(default_factory=Log)

    def offline(self, profile: Path | None = None) -> "Settings":
        """The same for files and folders: another profile, and one thread for each process.

        How many threads share a sum decides how it is rounded; one makes a repeat the same whatever else runs.
        """
        models = replace(self.models, threads=self.models.threads or 1)
        return replace(self, profile=Profile(profile or self.profile.file), models=models)


def load(file: Path, environ: Mapping[str, str] | None = None, *, needed: bool = True) -> Settings:
    """The settings in ``file``, overridden by the environment.

    Parameters
    ----------
    file
        A TOML file.
    environ
        Variables to look at; the process's own where not given.
    needed
        Whether the file must be there; else, without it, everything is as shipped, the profiles too.

    Raises
    ------
    Misconfigured
        The file cannot be read, a key is unknown, or a value is not what its key takes.
    """
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        if needed or not isinstance(error, FileNotFoundError):
            raise Misconfigured(
                f"{file} cannot be read ({error.strerror}); name the configuration with --conf."
            ) from error
        table = {"profile": {"file": str(SHIPPED / "basic.toml")}}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Misconfigured(f"{file} is not valid TOML: {error}") from error
    source = keys.Source(str(file), file.resolve().parent, os.environ if environ is None else environ)
    sections: dict[str, Any] = {spec.name: spec.type for spec in fields(Settings)}
    for unknown in sorted(table.keys() - sections.keys()):
        raise Misconfigured(f"{file}: there is no section [{unknown}]; {keys.instead(unknown, sections)}")
    source.check_sections(sections)
    peers = table.pop("peers", [])
    if not isinstance(peers, list):
        raise Misconfigured(f"{file}: write each sender as its own [[peers]] section.")
    bound = {
        name: source.section(kind, name, table.get(name, {}))
        for name, kind in sections.items()
        if name != "peers"
    }
    senders = keys.Source(source.name, source.folder, {})  # a list has no names for variables
    return Settings(peers=tuple(senders.section(Peer, "peers", peer) for peer in peers), **bound)


def document() -> str:
    """The text of ``docs/settings.md``: every key, what it takes, its default and its meaning."""
    parts = [
        "# Settings\n",
        "`conf/gateway.toml`. Relative paths start at its folder; the environment overrides it.\n",
    ]
    for spec in fields(Settings):
        repeated = spec.name == "peers"
        kind: Any = Peer if repeated else spec.type
        parts.append(keys.table(kind, spec.name, repeated=repeated))
    return "\n".join(parts)
