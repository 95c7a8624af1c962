"""Bytes on disk: what is kept here survives a power cut once the call has returned.

``incoming/`` holds objects that are still being received, ``original/`` what was received, ``clean/`` what
may leave. A file's name is the SHA-256 of its content, so writing the same thing twice is harmless.
"""

import contextlib
import filecmp
import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NewType

from gateway.errors import Misconfigured, Postponed

Digest = NewType("Digest", str)

AREAS = ("original", "clean")
SHARDS = "0123456789abcdef"
SYNCS = 8


class Spool:
    """The folder with everything that was received and everything that will be sent.

    Parameters
    ----------
    folder
        Created, mode 0700, where it does not exist.
    reserve_bytes
        Free space below which nothing more is written.

    Raises
    ------
    Misconfigured
        The folder cannot be created.
    """

    def __init__(self, folder: Path, reserve_bytes: int) -> None:
        self._folder = folder
        self._reserve_bytes = reserve_bytes
        self._syncing = ThreadPoolExecutor(max_workers=SYNCS, thread_name_prefix="spool")
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.incoming.mkdir(exist_ok=True, mode=0o700)
            for area in AREAS:
                # Every shard exists from the start, so that keeping a file syncs one folder and not two.
                for shard in SHARDS:
                    (folder / area / shard).mkdir(parents=True, exist_ok=True, mode=0o700)
                _sync(folder / area)
            _sync(folder)
        except OSError as error:
            raise Misconfigured(f"[spool] folder {folder} cannot be used ({error.strerror}).") from error

    @property
    def incoming(self) -> Path:
        """Where objects grow while they are received; on the same file system as the rest."""
        return self._folder / "incoming"

    def original(self, digest: str) -> Path:
        """Where the original with this digest lies, or would."""
        return self._path("original", digest)

    def clean(self, digest: str) -> Path:
        """Where the clean file with this digest lies, or would."""
        return self._path("clean", digest)

    def check_reserve(self) -> None:
        """Return in silence while there is room.

        Raises
        ------
        Postponed
            Free space is below the reserve, or cannot be read.
        """
        try:
            free = shutil.disk_usage(self._folder).free
        except OSError as error:
            raise Postponed("spool", f"the spool cannot be reached ({error.strerror})") from error
        if not free >= self._reserve_bytes:
            raise Postponed("disk-reserve", "the spool's disk is below its reserve")

    def flush(self, received: Path) -> "Future[None]":
        """Begin to make a file's bytes durable, while something else is done; for `keep_original`."""
        return self._syncing.submit(_sync, received)

    def keep_original(self, received: Path, digest: str, flushed: "Future[None] | None" = None) -> Path:
        """Give a received file its place, durably; its name in ``incoming`` may be removed afterwards.

        The name is given while the bytes are synced, so that both become durable by one flush of the disk. What
        a crash leaves half-written has no row in the ledger and is not taken for an original.

        Parameters
        ----------
        received
            A complete file under `incoming`.
        digest
            SHA-256 of what was received, hexadecimal.
        flushed
            What `flush` gave for it, where that was begun already.

        Raises
        ------
        Postponed
            The disk did not take it; it has no place.
        """
        target = self.original(digest)
        flushed = flushed or self.flush(received)
        is_new = True
        try:
            try:
                target.hardlink_to(received)
            except FileExistsError:
                is_new = False
                flushed.result()
                # Another association's copy may already be acknowledged: it is replaced only if it is no copy.
                if not filecmp.cmp(received, target, shallow=False):
                    received.replace(target)
                flushed = self.flush(target)
            # At the same time as the bytes, because the disk then flushes once for both.
            _sync(target.parent)
            flushed.result()
        except OSError as error:
            if is_new:
                # Not left for a repetition to find: after a failed flush, the next one may succeed without bytes.
                target.unlink(missing_ok=True)
            raise Postponed("spool", f"the spool cannot be written ({error.strerror})") from error
        return target

    def originals(self) -> Iterator[Digest]:
        """Digests of the originals that are there, in no order; files with other names are not ours."""
        for file in (self._folder / "original").glob("?/*.dcm"):
            if _is_digest(file.stem):
                yield Digest(file.stem)

    def keep_clean(self, file: bytes) -> Digest:
        """Write a clean file durably and return its digest.

        Raises
        ------
        Postponed
            The disk did not take it, or is below its reserve.
        """
        self.check_reserve()
        digest = Digest(hashlib.sha256(file).hexdigest())
        target = self.clean(digest)
        growing = target.with_suffix(f".{os.getpid()}.part")
        try:
            with growing.open("wb") as stream:
                stream.write(file)
                stream.flush()
                os.fsync(stream.fileno())
            growing.replace(target)
            _sync(target.parent)
        except OSError as error:
            with contextlib.suppress(OSError):
                growing.unlink(missing_ok=True)
            raise Postponed("spool", f"the spool cannot be written ({error.strerror})") from error
        return digest

    def remove(self, area: str, digest: str) -> bool:
        """Remove one file; whether there was one.

        Raises
        ------
        Postponed
            The disk did not let go of it.
        """
        try:
            self._path(area, digest).unlink()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise Postponed("spool", f"the spool cannot be written ({error.strerror})") from error
        return True

    def sweep_incoming(self, older_than_s: float) -> int:
        """Remove what broken associations left behind; nothing here was ever acknowledged.

        Returns
        -------
        int
            Number of files removed.
        """
        removed = 0
        limit = time.time() - older_than_s
        for stray in self.incoming.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if stray.is_file() and stray.stat().st_mtime <= limit:
                    stray.unlink()
                    removed += 1
        return removed

    def _path(self, area: str, digest: str) -> Path:
        if area not in AREAS or not _is_digest(digest):
            raise ValueError("not a place in the spool")
        return self._folder / area / digest[0] / f"{digest}.dcm"


def _is_digest(text: str) -> bool:
    return len(text) == 64 and set(text) <= set(SHARDS)


def _sync(path: Path) -> None:
    """Make a file's bytes, or a folder's entries, durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
