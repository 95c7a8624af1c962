"""The whole treatment of one object, top to bottom: from the original file to a clean one that passed every gate."""

import re
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom import Dataset

from gateway import burnin, frames, mark, part10, release, scrub
from gateway.errors import Held, Postponed, Refused
from gateway.identities import text_of
from gateway.instance import Cleared, Evidence, PseudonymousUid
from gateway.masks import DrawnMasks
from gateway.profiles import Profile
from gateway.pseudonym import Pseudonyms
from gateway.redact import Redacted, Redactor, changed_outside
from gateway.residue import residue
from inference.disguise import Identity

_UID = re.compile(r"[0-9]+(\.[0-9]+)+")
REMEMBERED = 20_000
"""Originals whose faces are remembered, so that the pictures of a study are not searched again for each other."""


class Deidentifier:
    """Treats one object after the other; calling it is the treatment the pipeline runs.

    Parameters
    ----------
    profile
        What happens to each attribute.
    pseudonyms
        The site's keyed functions.
    redactor
        Paints over faces.
    texts
        Deals with text in pixels; ``None`` where the site has decided not to look, which is then not claimed.
    masks
        Finds masks that somebody drew for an object; ``None`` where nobody does.
    prompt
        Words for the painter.
    syntaxes
        Transfer syntax UIDs the archive takes for edited objects, best first.
    """

    def __init__(  # noqa: PLR0913 - the collaborators of the recipe below
        self,
        *,
        profile: Profile,
        pseudonyms: Pseudonyms,
        redactor: Redactor,
        texts: burnin.Lettering | None,
        masks: DrawnMasks | None = None,
        prompt: str,
        syntaxes: Sequence[str],
    ) -> None:
        self._profile = profile
        self._pseudonyms = pseudonyms
        self._redactor = redactor
        self._texts = texts
        self._masks = masks
        self._prompt = prompt
        self._syntaxes = tuple(syntaxes)
        self._known: OrderedDict[Path, list[Identity]] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, original: Path, others: Sequence[Path]) -> Cleared:
        """Treat the object in ``original``; ``others`` are the other originals of its study.

        Raises
        ------
        Refused, Postponed, Held
            As the part of the treatment that ends it says; the gates speak last.
        """
        source = part10.read(original)
        clean = scrub.scrub(source, self._profile, self._pseudonyms)
        decoded = frames.decode(clean)
        written = None if self._texts is None else self._texts.written(decoded.rgb)
        uid = name_of(clean)
        identities = [identity for other in others for identity in self._identities(other)]
        given = None if self._masks is None else self._masks.find(source, decoded.rgb.shape[:3])
        done = self._redactor.redact(
            decoded.rgb, self._prompt, seed_of(uid), identities, written=written, given=given
        )
        legible = None if self._texts is None else self._texts.legible(done.frames, done.written)
        edited = frames.encode(clean, decoded, done.frames, done.painted, self._syntaxes)
        mark.mark(
            clean,
            self._profile,
            pixels_clean=legible == 0,
            features_clean=True,  # gated below: an object about which this is not true does not leave
            edited=edited,
            remarks=self._remarks(edited),
        )
        if legible is None:
            mark.repeat(clean, source)
        file = part10.write(clean)
        evidence = self._evidence(source, file, decoded, done, legible)
        release.check(evidence, release.GATES if self._texts else _without(release.text))
        return Cleared(
            file=file,
            sop_instance=uid,
            sop_class=text_of(clean, 0x00080016),
            transfer_syntax=text_of(clean.file_meta, 0x00020010),
            evidence=evidence,
        )

    def _identities(self, original: Path) -> list[Identity]:
        """Faces in another original of the study; one that is no readable picture shows none, and is held itself.

        Raises
        ------
        Postponed
            Models or disk are away: whom this object must not resemble is not known now.
        """
        with self._lock:
            if original in self._known:
                self._known.move_to_end(original)
                return self._known[original]
        try:
            found = self._redactor.identities(frames.decode(part10.read(original)).rgb)
        except (Held, Refused):
            found = []
        except OSError as error:
            raise Postponed("spool", "another original of the study cannot be read now") from error
        with self._lock:
            self._known[original] = found
            while len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        return found

    def _remarks(self, edited: bool) -> tuple[str, ...]:
        models = self._redactor.models
        said = [named(self._pseudonyms), *([f"models {models.name}"] if edited else [])]
        if edited and models.demonstration:
            said.append("DEMONSTRATION MODELS, not for research use")
        return tuple(said)

    def _evidence(
        self, source: Dataset, file: bytes, decoded: frames.Frames, done: Redacted, legible: int | None
    ) -> Evidence:
        """Everything the gates ask for, measured on the finished file."""
        finished = part10.read(file)
        shown = frames.decode(finished, like=decoded).rgb
        same_shape = shown.shape == decoded.rgb.shape
        edited = bool(done.painted.any())
        return Evidence(
            frames=decoded.count,
            faces=done.faces,
            features=done.features,
            doubtful=done.doubtful,
            hidden_pixels=int(done.hide.sum()),
            text_pixels=int(done.written.sum()),
            kept_pixels=int(done.keep.sum()),
            uncovered_pixels=done.uncovered_pixels,
            similarity=done.similarity,
            similarity_limit=done.similarity_limit,
            outside_identical=same_shape and not changed_outside(decoded.rgb, shown, done.painted),
            kept_identical=same_shape and bool(np.array_equal(decoded.rgb[done.keep], shown[done.keep])),
            text=legible,
            residue=len(residue(source, file, self._profile)),
            marker_faults=len(mark.markers(finished, self._profile, edited=edited)),
            attempts=done.attempts,
        )


@dataclass(frozen=True, slots=True)
class MetadataOnly:
    """Takes the identity out of the metadata; pixels are carried over unseen, and nothing is claimed of them.

    Attributes
    ----------
    profile
        What happens to each attribute.
    pseudonyms
        The site's keyed functions.
    syntaxes
        Transfer syntax UIDs for pixels whose coded bytes cannot stay, best first.
    """

    profile: Profile
    pseudonyms: Pseudonyms
    syntaxes: tuple[str, ...] = frames.LOSSLESS

    def __call__(self, original: Path) -> Cleared:
        """Treat the object in ``original``.

        Raises
        ------
        Refused, Postponed, Held
            As the part of the treatment that ends it says; ``pixels-identify`` where the object itself says that
            its pixels show who it is.
        """
        source = part10.read(original)
        if mark.says_identifying(source):
            raise Held("pixels-identify", "the object itself says that its pixels show text or a person")
        clean = scrub.scrub(source, self.profile, self.pseudonyms)
        if "PixelData" in source:
            frames.carry(clean, self.syntaxes)
        mark.mark(
            clean,
            self.profile,
            pixels_clean=False,
            features_clean=False,
            edited=False,
            remarks=[named(self.pseudonyms)],
        )
        mark.repeat(clean, source)
        file = part10.write(clean)
        looked = part10.look(file)
        evidence = Evidence(
            residue=len(residue(source, file, self.profile, looked)),
            marker_faults=len(mark.markers(looked.ds, self.profile, edited=False, seen=False)),
        )
        release.check(evidence, (release.residue, release.markers))
        return Cleared(
            file=file,
            sop_instance=name_of(clean),
            sop_class=text_of(clean, 0x00080016),
            transfer_syntax=text_of(clean.file_meta, 0x00020010),
            evidence=evidence,
        )


def named(pseudonyms: Pseudonyms) -> str:
    """The remark that says which key made an object's pseudonyms: after a change of key nothing links the two."""
    return f"pseudonym key {pseudonyms.key_name}"


def seed_of(uid: PseudonymousUid) -> int:
    """The painter's seed for an object: a function of its pseudonym, so that a repeat paints the same again."""
    return int(uid.removeprefix("2.25.").replace(".", "")) % 2**31


def name_of(clean: Dataset) -> PseudonymousUid:
    """The SOP Instance UID of a scrubbed object.

    Raises
    ------
    Held
        ``unreadable``: it has several, or none.
    """
    uid = str(clean.SOPInstanceUID)
    if not _UID.fullmatch(uid):
        raise Held("unreadable", "the object does not have one SOP Instance UID")
    return PseudonymousUid(uid)


def _without(gate: release.Gate) -> tuple[release.Gate, ...]:
    return tuple(one for one in release.GATES if one is not gate)
