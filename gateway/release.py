"""The gates. Each is a small policy that returns in silence or raises :class:`~gateway.errors.Held`.

Every comparison is written so that missing or NaN evidence holds. An empty list of gates holds as well: nothing
leaves because nobody asked.
"""

from collections.abc import Callable, Sequence

from gateway.errors import Held
from gateway.instance import Evidence

Gate = Callable[[Evidence], None]


def coverage(evidence: Evidence) -> None:
    """Every face and feature that was seen lies inside *hide*, or is a lesion kept by rule; nobody else is in doubt."""
    if not (evidence.uncovered_pixels is not None and evidence.uncovered_pixels == 0):
        raise Held("coverage", "a feature of a face was seen outside the hidden region")
    if not (evidence.doubtful is not None and evidence.doubtful == 0):
        raise Held("doubtful-face", "something may be the face of another person, and no search confirmed it")


def similarity(evidence: Evidence) -> None:
    """The person is no longer recognised; where no face was seen by any search there is nobody to recognise."""
    if evidence.faces == 0 and evidence.features is False and evidence.hidden_pixels == 0:
        return
    limit, found = evidence.similarity_limit, evidence.similarity
    if found is None or limit is None:
        raise Held("unverified", "features were hidden, but no face could be compared: a person must look")
    if not -1.0001 <= found < limit:
        raise Held(
            "similarity", f"the verifier still recognises the person (cosine {found:.2f}, limit {limit:.2f})"
        )


def fidelity(evidence: Evidence) -> None:
    """Outside *hide*, and in every kept lesion, the finished object decodes to the original pixels."""
    if evidence.outside_identical is not True or evidence.kept_identical is not True:
        raise Held("fidelity", "pixels that must stay as photographed differ in the finished object")


def text(evidence: Evidence) -> None:
    """No text is left in the pixels that is not allowed."""
    if not (evidence.text is not None and evidence.text == 0):
        raise Held("text", "text stands in the pixels")


def residue(evidence: Evidence) -> None:
    """No original identifying value is left anywhere in the finished file."""
    if not (evidence.residue is not None and evidence.residue == 0):
        raise Held("residue", "an identifying value of the original is left in the finished object")


def markers(evidence: Evidence) -> None:
    """The de-identification attributes are there and agree with each other."""
    if not (evidence.marker_faults is not None and evidence.marker_faults == 0):
        raise Held("markers", "the de-identification attributes are incomplete or contradict each other")


GATES: tuple[Gate, ...] = (coverage, similarity, fidelity, text, residue, markers)


def check(evidence: Evidence, gates: Sequence[Gate] = GATES) -> None:
    """Ask every gate in turn.

    Raises
    ------
    Held
        A gate is not satisfied, or there is none.
    """
    if not gates:
        raise Held("no-gates", "no release gate is configured")
    for gate in gates:
        gate(evidence)
