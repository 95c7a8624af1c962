"""An archive for the demonstration: a storage SCP in this process that writes every object it receives."""

import threading
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Any

from pydicom.uid import (
    UID,
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
from pynetdicom import AE, evt

AE_TITLE = "ARCHIVE"
CLASSES: tuple[str, ...] = (
    VLPhotographicImageStorage,
    DermoscopicPhotographyImageStorage,
    SecondaryCaptureImageStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
)
SYNTAXES: list[str] = [
    JPEGLSLossless,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
]


class Archive:
    """Receives on a free loopback port from entering to leaving its context.

    Parameters
    ----------
    folder
        Gets one file an object, named by its SOP Instance UID.

    Attributes
    ----------
    received
        How often each SOP Instance UID came.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.received: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._entity = AE(AE_TITLE)
        for sop_class in CLASSES:
            self._entity.add_supported_context(sop_class, SYNTAXES)
        self._server: Any = None

    @property
    def port(self) -> int:
        """Where it listens, once its context is entered."""
        return int(self._server.server_address[1])

    def file(self, sop_instance: str) -> Path:
        """Where the object of that UID lies, if it came."""
        return self.folder / f"{UID(sop_instance)}.dcm"

    def __enter__(self) -> "Archive":
        self.folder.mkdir(parents=True, exist_ok=True)
        handlers: list[Any] = [(evt.EVT_C_STORE, self._store)]
        self._server = self._entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._entity.shutdown()

    def _store(self, event: Any) -> int:
        """C-STORE: the bytes as they came, behind their file meta (PS3.7 9.3.1, PS3.4 B.2.3)."""
        uid = str(event.request.AffectedSOPInstanceUID)
        try:
            self.file(uid).write_bytes(event.encoded_dataset())
        except OSError:
            return 0xA700
        with self._lock:
            self.received[uid] += 1
        return 0x0000
