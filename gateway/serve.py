"""``gateway serve``: everything started in its order, kept running until told to stop, and ended in reverse."""

import fcntl
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from gateway import log, receive, schedule
from gateway.audit import Trail
from gateway.errors import Misconfigured
from gateway.ledger import Ledger
from gateway.pipeline import Pipeline
from gateway.schema import sqlite_url
from gateway.settings import Settings
from gateway.spool import Spool
from gateway.stages import Stages, Treat

MIB = 1 << 20
LOCK = "serve.lock"


@contextmanager
def alone(folders: Sequence[Path]) -> Iterator[None]:
    """Keep folders to this process: two that treat and sweep in the same ones would take away each other's work.

    Raises
    ------
    Misconfigured
        Another process has one of them.
    """
    with ExitStack() as locks:
        for folder in dict.fromkeys(folders):
            try:
                lock = locks.enter_context((folder / LOCK).open("ab"))
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise Misconfigured(
                    f"Another gateway serve works in {folder}: stop it, or give this one a [ledger] folder, a [spool] "
                    "folder and a port of its own."
                ) from error
            except OSError as error:
                raise Misconfigured(f"{folder} cannot be used ({error.strerror}).") from error
        yield


def run(conf: Settings, ledger: Ledger, spool: Spool, trail: Trail, build: Callable[[], Treat]) -> None:
    """Serve until SIGTERM or SIGINT.

    Parameters
    ----------
    conf
        The settings.
    ledger, spool, trail
        Where instances are noted and kept, and actions are noted.
    build
        Makes the treatment; it reads the models.

    Raises
    ------
    Misconfigured
        Something cannot be started as the settings want it.
    Postponed
        Disk or ledger cannot be used now.
    """
    stop = threading.Event()
    with ExitStack() as running:
        running.callback(ledger.close)
        running.enter_context(alone([conf.ledger.folder, conf.spool.folder]))
        treat = build()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        pipeline = Pipeline(
            Stages(ledger, spool, trail, treat, conf.archive),
            sqlite_url(conf.ledger.folder / "workflows.sqlite"),
            conf.models.in_flight,
        )
        running.callback(pipeline.stop)
        pipeline.start()
        pipeline.reconcile()
        duties = schedule.Duties(ledger, spool, trail, pipeline, conf.arrival.quiet_s, conf.retention)
        running.callback(schedule.start(duties).shutdown)
        intake = receive.Intake(spool, ledger, conf.listener.max_object_mb * MIB, conf.objects)
        intake.recover()
        reception = receive.listen(receive.Desk(conf.listener, conf.peers, intake, trail))
        running.callback(reception.stop)
        trail.append("service", "service.started")
        log.get().info(
            "service.ready",
            host=conf.listener.host,
            port=reception.port,
            ae_title=conf.listener.ae_title,
            pid=os.getpid(),
        )
        stop.wait()
        begun = time.perf_counter()
        log.get().info("service.stopping")
    head = trail.append("service", "service.stopped")
    log.get().info("audit.head", seq=head.seq, digest=head.digest)
    log.get().info("service.stopped", seconds=round(time.perf_counter() - begun, 3))
