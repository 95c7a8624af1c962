"""The ``gateway`` command with a treatment that only gives every UID a pseudonym: for tests of everything else.

The series description tells it what to do: ``hold``, ``refuse``, ``defect``, ``kill`` (this process, at once),
``postpone`` or ``dawdle`` (the last two until the file named by STAND_IN_READY exists).

STAND_IN_KILL names a file; once it holds one of `PLACES`, the process kills itself there.
"""

import hashlib
import os
import signal
import sys
import time
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from pydicom import dcmread

from gateway import cli
from gateway.errors import Held, Postponed, Refused
from gateway.instance import Cleared, Evidence, PseudonymousUid
from gateway.ledger import Ledger
from gateway.pipeline import Pipeline
from gateway.settings import Settings
from gateway.spool import Spool
from gateway.stages import Stages, Treat
from gateway.treatment import ByKind


def pseudonym(uid: str) -> str:
    """The stand-in's pseudonymous UID."""
    return f"2.25.{int.from_bytes(hashlib.sha256(uid.encode()).digest()[:15], 'big')}"


def treat(original: Path, _others: Sequence[Path]) -> Cleared:
    """Every UID replaced, nothing else."""
    ds = dcmread(original)
    wish = str(ds.get("SeriesDescription", ""))
    if wish == "hold":
        raise Held("similarity", "held because the test wants it")
    if wish == "refuse":
        raise Refused("sop-class", "refused because the test wants it")
    if wish == "defect":
        raise RuntimeError("Zweifelsfrei^Adelheid must not be seen")
    if wish == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if wish == "postpone" and not Path(os.environ["STAND_IN_READY"]).exists():
        raise Postponed("models", "the test wants it later")
    if wish == "dawdle" and not Path(os.environ["STAND_IN_READY"]).exists():
        time.sleep(1.0)
    for keyword in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        setattr(ds, keyword, pseudonym(str(getattr(ds, keyword))))
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    out = BytesIO()
    ds.save_as(out, enforce_file_format=True)
    syntax = str(ds.file_meta.TransferSyntaxUID)
    uid = PseudonymousUid(str(ds.SOPInstanceUID))
    return Cleared(out.getvalue(), uid, str(ds.SOPClassUID), syntax, Evidence(frames=1, attempts=1))


PLACES: dict[str, tuple[type, str]] = {
    "bytes kept, no row": (Spool, "keep_original"),
    "row made, no answer": (Ledger, "record"),
    "arrival made, no workflow": (Ledger, "gather"),
    "workflow made, arrival not noted": (Pipeline, "submit"),
    "attempt begun": (Ledger, "begin"),
    "clean file kept, no row": (Spool, "keep_clean"),
    "cleared": (Ledger, "clear"),
    "sent, not noted": (Stages, "_answered"),
    "forwarded": (Ledger, "forward"),
    "all forwarded, workflow not ended": (Stages, "forward_all"),
}
"""Between any two steps: the method after which, or for ``sent`` before which, the process ends."""


def die_where(wish: Path) -> None:
    """Have this process killed where the file says, as soon as it comes there with something to do."""
    for place, (kind, name) in PLACES.items():
        setattr(kind, name, _dying(place, wish, getattr(kind, name)))


def _dying(place: str, wish: Path, method: Any) -> Any:
    def dies(*arguments: Any, **options: Any) -> Any:
        mine = wish.exists() and wish.read_text(encoding="utf-8") == place
        if mine and place.startswith("sent"):
            os.kill(os.getpid(), signal.SIGKILL)
        done = method(*arguments, **options)
        if mine and done != []:
            os.kill(os.getpid(), signal.SIGKILL)
        return done

    return dies


def build(conf: Settings) -> Treat:
    """In the place of the real one, for the kinds of objects that are treated."""
    return ByKind(conf.objects, treat, lambda original: treat(original, ()))


if __name__ == "__main__":
    if "STAND_IN_KILL" in os.environ:
        die_where(Path(os.environ["STAND_IN_KILL"]))
    cli.build_treatment = build
    sys.exit(cli.main())
