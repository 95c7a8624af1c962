"""The values that travel through the gateway: one instance, its state, and the evidence about its pixels."""

from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import NewType

OriginalUid = NewType("OriginalUid", str)
PseudonymousUid = NewType("PseudonymousUid", str)


class State(StrEnum):
    """Where an acknowledged instance is; exactly one holds at any time."""

    RECEIVED = "received"  # waiting to be treated
    CLEARED = "cleared"  # the clean file is on disk, waiting to be sent
    HELD = "held"  # a person must look
    REFUSED = "refused"  # may never pass
    FORWARDED = "forwarded"  # the archive has it


@dataclass(frozen=True, slots=True)
class Instance:
    """One stored object as it arrived.

    Attributes
    ----------
    sop_instance, study, series
        The *original* identifiers; they may appear in the spool and the ledger, nowhere else.
    sop_class, transfer_syntax
        UIDs as received.
    sha256
        Digest of the bytes as received (hexadecimal): the identity of this very sending.
    size_bytes
        Length of the Part 10 file in the spool.
    """

    sop_instance: OriginalUid
    study: OriginalUid
    series: OriginalUid
    sop_class: str
    transfer_syntax: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was measured on one treated instance. ``None`` means *not measured* and never passes a gate.

    Attributes
    ----------
    frames
        Number of frames treated.
    faces
        Faces found in the originals, over all frames.
    features
        Whether the segmentation saw any feature of a face (eye, brow, nose, mouth).
    doubtful
        What may be further faces, confirmed by no search and not hidden; over all frames.
    hidden_pixels, kept_pixels
        Number of pixels painted over as parts of a face, and of lesion pixels kept inside it.
    text_pixels
        Number of pixels painted over as text.
    uncovered_pixels
        Identity-bearing pixels (features seen by the segmentation, face ovals by the detector) outside
        *hide* and not kept.
    similarity
        Largest cosine between any original face of the arrival and the result, in [-1, 1]; ``None`` when
        nothing could be compared.
    similarity_limit
        The calibrated limit the similarity was judged by.
    outside_identical, kept_identical
        Whether pixels outside *hide*, and of *keep*, equal the original bit for bit after decoding what was written.
    text
        Texts still legible in the result that are not allowed (their number, not their content).
    residue
        Number of original identifying values found in the finished file.
    marker_faults
        De-identification attributes that are missing or contradict each other in the finished file.
    attempts
        How many times the face was painted before the gates were satisfied.
    """

    frames: int | None = None
    faces: int | None = None
    features: bool | None = None
    doubtful: int | None = None
    hidden_pixels: int | None = None
    text_pixels: int | None = None
    kept_pixels: int | None = None
    uncovered_pixels: int | None = None
    similarity: float | None = None
    similarity_limit: float | None = None
    outside_identical: bool | None = None
    kept_identical: bool | None = None
    text: int | None = None
    residue: int | None = None
    marker_faults: int | None = None
    attempts: int | None = None

    def as_dict(self) -> dict[str, int | float | bool | None]:
        """The evidence as plain values, for the ledger and for reports."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


@dataclass(frozen=True, slots=True)
class Cleared:
    """A treated object that has passed every gate.

    Attributes
    ----------
    file
        The complete Part 10 file.
    sop_instance
        Its pseudonymous SOP Instance UID (equals the one in the file).
    sop_class, transfer_syntax
        UIDs of the clean object.
    evidence
        What the gates saw.
    """

    file: bytes = field(repr=False)
    sop_instance: PseudonymousUid
    sop_class: str
    transfer_syntax: str
    evidence: Evidence
