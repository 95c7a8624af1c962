"""What happens by the clock: quiet studies become arrivals, and files that are no longer needed go.

Every job may be repeated or missed: it looks at what is, and does what is left. Missed runs count as one.
What is held or refused is never removed.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from apscheduler.schedulers.background import BackgroundScheduler

from gateway import log
from gateway.audit import Trail
from gateway.ledger import Ledger
from gateway.pipeline import Pipeline
from gateway.settings import Retention
from gateway.spool import Spool

DAY_S = 86_400.0
STRAY_S = 3_600.0
RETENTION_EVERY_S = 3_600.0
RECONCILE_EVERY_S = 300.0
"""A workflow that could not even leave a successor, as on a full disk, is found out this soon."""
BATCH = 500


@dataclass(frozen=True, slots=True)
class Duties:
    """The jobs, without the clock.

    Attributes
    ----------
    ledger, spool, trail, pipeline
        What they work on.
    quiet_s
        Seconds without a new instance after which a study becomes an arrival.
    retention
        How long files stay.
    """

    ledger: Ledger
    spool: Spool
    trail: Trail
    pipeline: Pipeline
    quiet_s: float
    retention: Retention

    def gather(self) -> None:
        """Start a workflow for every study that has become quiet."""
        for arrival in self.ledger.gather(self.quiet_s):
            self.pipeline.submit(arrival)
            self.ledger.started(arrival)
            log.get().info(
                "arrival.gathered", arrival=arrival, instances=len(self.ledger.entries(arrival=arrival))
            )

    def retire(self) -> None:
        """Remove files of forwarded instances whose time is over, and what broken associations left."""
        originals = self._remove("original", self.retention.originals_days)
        cleans = self._remove("clean", self.retention.clean_days)
        strays = self.spool.sweep_incoming(STRAY_S)
        self.pipeline.prune(max(self.retention.originals_days, 1.0) * DAY_S)
        if originals or cleans:
            self.trail.append("service", "retention.removed", {"originals": originals, "cleans": cleans})
        log.get().info("retention.removed", originals=originals, cleans=cleans, strays=strays)

    def reconcile(self) -> None:
        """Start again what has no workflow any more."""
        self.pipeline.reconcile()

    def _remove(self, area: str, days: float) -> int:
        number = 0
        before = time.time() - days * DAY_S
        while expired := self.ledger.expired(area, before, BATCH):
            for _, digest in expired:
                self.spool.remove(area, digest)
            self.ledger.removed(area, [instance for instance, _ in expired])
            number += len(expired)
        return number


def start(duties: Duties) -> BackgroundScheduler:
    """Run the duties by the clock until the scheduler is shut down."""
    scheduler = BackgroundScheduler(
        timezone="UTC", job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None}
    )
    sweep_s = min(max(duties.quiet_s / 4, 0.2), 10.0)
    for job, every_s in (
        (duties.gather, sweep_s),
        (duties.retire, RETENTION_EVERY_S),
        (duties.reconcile, RECONCILE_EVERY_S),
    ):
        scheduler.add_job(guarded(job), "interval", seconds=every_s, id=job.__name__)
    scheduler.start()
    return scheduler


def guarded(job: Callable[[], None]) -> Callable[[], None]:
    """A job whose failure is told by its class alone, and does not end the job."""

    def run() -> None:
        try:
            job()
        except Exception as error:  # noqa: BLE001 - the next run tries again
            log.get().error("schedule.failed", job=job.__name__, error=type(error).__name__)

    return run
