"""Which treatment an object gets: by its kind, as the operator wants it; made from the settings."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom.uid import UID, ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless

from gateway import burnin, memory, part10
from gateway.crosswalk import Crosswalk, Recorder
from gateway.deidentify import Deidentifier, MetadataOnly
from gateway.errors import Held, Misconfigured, Postponed, Refused
from gateway.identities import text_of
from gateway.instance import Cleared
from gateway.masks import DrawnMasks
from gateway.objects import Treatment
from gateway.profile_files import load
from gateway.pseudonym import Pseudonyms
from gateway.redact import Redactor
from gateway.schema import sqlite_url
from gateway.settings import Objects, Settings
from inference.anonymize import MaskOptions
from inference.contract import Models

SYNTAXES = {"jpeg-ls": JPEGLSLossless, "jpeg2000": JPEG2000Lossless, "explicit": ExplicitVRLittleEndian}


@dataclass(frozen=True, slots=True)
class ByKind:
    """Has each object treated as the operator wants its kind treated; the treatment that pipeline and command run.

    Attributes
    ----------
    objects
        What happens to each kind.
    whole
        Treats metadata and pixels.
    metadata
        Treats metadata alone.
    record
        Notes the originals of what was cleared, before it is told so; ``None`` where nothing is noted.
    """

    objects: Objects
    whole: Callable[[Path, Sequence[Path]], Cleared]
    metadata: Callable[[Path], Cleared]
    record: Callable[[Path], None] | None = None

    def __call__(self, original: Path, others: Sequence[Path] = ()) -> Cleared:
        """Treat the object in ``original``; ``others`` are the other originals of its study.

        Raises
        ------
        Refused
            ``sop-class``: the operator does not want this kind of object to pass.
        Postponed, Held
            As the treatment that ends it says.
        """
        treatment = self._treatment(original)
        if treatment is Treatment.REFUSE:
            raise Refused("sop-class", "this kind of object may not pass; see [objects]")
        if treatment is Treatment.METADATA_ONLY:
            cleared = self.metadata(original)
        else:
            cleared = self.whole(original, [other for other in others if self._shows_people(other)])
        if self.record is not None:
            self.record(original)
        return cleared

    def _treatment(self, original: Path) -> Treatment:
        try:
            return self.objects.treatment(text_of(part10.peek(original, ["SOPClassUID"]), 0x00080016))
        except OSError as error:
            raise Postponed("spool", "an original cannot be read now") from error

    def _shows_people(self, other: Path) -> bool:
        """Whether another original of the study is a picture; what cannot be read is held itself."""
        try:
            return self._treatment(other) is Treatment.TREAT
        except (Held, Refused):
            return False


def build_treatment(settings: Settings, models: Models) -> ByKind:
    """The treatment that ``settings`` describe, with these models.

    Raises
    ------
    Misconfigured
        The bundle is not signed off, or a demonstration and that is not allowed, or a file that the settings name
        cannot be used.
    """
    if models.objection:
        raise Misconfigured(
            f"The model bundle {models.name} is not signed off: {models.objection}. gateway-models sign-off evaluates "
            "it on photographs and says what it lacks."
        )
    if models.demonstration and not settings.models.allow_demonstration_models:
        raise Misconfigured(
            f"The model bundle {models.name} is a demonstration: its results are not fit for research. Set [models] "
            "bundle to the site's own, or allow_demonstration_models = true to try the gateway."
        )
    pixels = settings.pixels
    masks = MaskOptions(pixels.lesion_over_features, pixels.keep_margin, pixels.hide_margin, pixels.keep_most)
    metadata = _metadata_only(settings)
    whole = Deidentifier(
        profile=metadata.profile,
        pseudonyms=metadata.pseudonyms,
        redactor=Redactor(models, masks, pixels.attempts),
        texts=None
        if pixels.text == "ignore"
        else burnin.Lettering(
            burnin.TextFinder((*burnin.ALLOWED, *pixels.allowed_text)), paint=pixels.text == "paint"
        ),
        masks=DrawnMasks(pixels.masks),
        prompt=models.words(pixels.disease, pixels.prompt),
        syntaxes=metadata.syntaxes,
    )
    return ByKind(settings.objects, whole, metadata, _recorder(settings, metadata))


def build_metadata_only(settings: Settings) -> ByKind:
    """The treatment that ``settings`` describe, without looking at any pixel.

    Raises
    ------
    Misconfigured
        A file that the settings name cannot be used.
    """
    metadata = _metadata_only(settings)
    return ByKind(
        settings.objects,
        lambda original, _others: metadata(original),
        metadata,
        _recorder(settings, metadata),
    )


def _metadata_only(settings: Settings) -> MetadataOnly:
    memory.keep_freed()
    return MetadataOnly(
        load(settings.profile.file),
        Pseudonyms(settings.pseudonyms.secret()),
        tuple(UID(SYNTAXES[name]) for name in settings.archive.transfer_syntaxes),
    )


def build_crosswalk(settings: Settings) -> Crosswalk | None:
    """The crosswalk that ``settings`` describe; ``None`` where they want none.

    Raises
    ------
    Misconfigured
        Its key or the library it needs is missing.
    """
    if not settings.crosswalk.enabled:
        return None
    url = settings.crosswalk.url or sqlite_url(settings.ledger.folder / "crosswalk.sqlite")
    return Crosswalk(url, settings.crosswalk.secret())


def _recorder(settings: Settings, metadata: MetadataOnly) -> Recorder | None:
    crosswalk = build_crosswalk(settings)
    return None if crosswalk is None else Recorder(crosswalk, metadata.pseudonyms, metadata.profile.issuer)
