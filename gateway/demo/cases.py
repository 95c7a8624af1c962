"""What the demonstration sends, and what must become of it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    DermoscopicPhotographyImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
    VLPhotographicImageStorage,
)

from gateway.demo import scenes
from gateway.demo.photographs import Patient, patient, photograph
from gateway.demo.scenes import Scene
from gateway.instance import State
from gateway.settings import Pixels

Rule = Literal["hold", "keep"]
"""``[pixels] lesion_over_features`` under which a case is sent."""
KEEP_MOST: Mapping[Rule, float] = {"hold": Pixels().keep_most, "keep": 1.0}
"""``[pixels] keep_most`` with it: who keeps lesions over features keeps them whole; the verifier has to see that."""

FORWARDED, HELD = State.FORWARDED, State.HELD


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """One photograph, its study of its own, and the end it must come to.

    Attributes
    ----------
    name
        For tables.
    rule
        The configuration it is sent under.
    expected, reason
        The state it must reach, and the reason where that is *held*.
    who
        Its invented patient.
    dataset
        What is sent.
    lesion
        bool (F, H, W): where a disease was painted.
    untouched
        There is no face: every pixel must arrive as it was sent.
    """

    name: str
    rule: Rule
    expected: State
    reason: str | None
    who: Patient
    dataset: Dataset = field(repr=False)
    lesion: NDArray[np.bool_] = field(repr=False)
    untouched: bool = False

    @property
    def uid(self) -> str:
        """The original SOP Instance UID."""
        return str(self.dataset.SOPInstanceUID)

    @property
    def tokens(self) -> tuple[str, ...]:
        """Texts that may occur in no file of the archive."""
        uids = (self.dataset.SOPInstanceUID, self.dataset.StudyInstanceUID, self.dataset.SeriesInstanceUID)
        return (*self.who.tokens, *(str(uid) for uid in uids))


@dataclass(frozen=True, slots=True)
class _Sent:
    """How a scene becomes an object, and the end it must come to."""

    name: str
    syntax: str = ExplicitVRLittleEndian
    sop_class: str = VLPhotographicImageStorage
    reason: str | None = None
    rule: Rule = "hold"
    untouched: bool = False


def cases() -> Iterator[Case]:
    """The cases, one after the other, because the largest needs some memory."""
    for index, (sent, shown) in enumerate(_scenes()):
        who = patient(index)
        several = len(shown) > 1
        pictures = np.stack([scene.image for scene in shown]) if several else shown[0].image
        yield Case(
            name=sent.name,
            rule=sent.rule,
            expected=FORWARDED if sent.reason is None else HELD,
            reason=sent.reason,
            who=who,
            dataset=photograph(pictures, who, sent.sop_class, sent.syntax),
            lesion=np.stack([scene.lesion for scene in shown]),
            untouched=sent.untouched,
        )


def _scenes() -> Iterator[tuple[_Sent, Sequence[Scene]]]:
    head = scenes.head()
    yield _Sent("portrait"), [scenes.whole()]
    yield _Sent("psoriasis"), [scenes.diseased(head, "psoriasis")]
    yield (
        _Sent("atopic dermatitis, implicit VR", ImplicitVRLittleEndian),
        [scenes.diseased(head, "atopic dermatitis", severity=0.9)],
    )
    yield _Sent("acne, JPEG-LS", JPEGLSLossless), [scenes.diseased(head, "acne", severity=0.9)]
    yield _Sent("rosacea, JPEG 2000", JPEG2000Lossless), [scenes.diseased(head, "rosacea")]
    yield _Sent("seborrheic dermatitis, RLE", RLELossless), [scenes.diseased(head, "seborrheic dermatitis")]
    yield _Sent("psoriasis, JPEG with EXIF", JPEGBaseline8Bit), [scenes.diseased(head, "psoriasis", seed=5)]
    yield (
        _Sent("rosacea, deflated", DeflatedExplicitVRLittleEndian),
        [scenes.diseased(head, "rosacea", seed=4)],
    )
    yield (
        _Sent("acne, secondary capture", sop_class=SecondaryCaptureImageStorage),
        [scenes.diseased(head, "acne", seed=6)],
    )
    yield _Sent("turned by 25°, rosacea"), [scenes.diseased(scenes.head(turn_deg=25), "rosacea", seed=2)]
    yield _Sent("lying on the side, psoriasis"), [scenes.diseased(scenes.head(turn_deg=90), "psoriasis")]
    yield _Sent("upside down, acne"), [scenes.diseased(scenes.head(turn_deg=180), "acne", seed=8)]
    yield (
        _Sent("12 megapixels, atopic dermatitis"),
        [scenes.diseased(scenes.head(3000, 4000), "atopic dermatitis", severity=0.9)],
    )
    small = scenes.head(400, 400)
    yield (
        _Sent("three frames, acne", sop_class=MultiFrameTrueColorSecondaryCaptureImageStorage),
        [scenes.diseased(small, "acne", severity=severity) for severity in (0.3, 0.6, 0.9)],
    )
    yield (
        _Sent("skin, no face, dermoscopic", sop_class=DermoscopicPhotographyImageStorage, untouched=True),
        [scenes.bare_skin("psoriasis")],
    )
    yield (
        _Sent("dark skin, no face, JPEG", JPEGBaseline8Bit, untouched=True),
        [scenes.bare_skin("acne", tone=0.8, seed=9)],
    )
    yield (
        _Sent("a name burned in", reason="text"),
        [scenes.inscribed(head, (f"{patient(16).family} {patient(16).given}", "1961-02-11"))],
    )
    yield _Sent("lesion over both eyes", reason="lesion-over-feature"), [scenes.over_the_eyes(head)]
    yield _Sent("lesion kept over the face", reason="similarity", rule="keep"), [scenes.overgrown(head)]
    yield _Sent("rosacea, rule keep", rule="keep"), [scenes.diseased(head, "rosacea", seed=7)]
