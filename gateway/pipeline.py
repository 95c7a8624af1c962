"""Durable workflows: an arrival is treated, then forwarded, and a killed process takes up where it was.

Two chained DBOS workflows for each arrival, ``treat`` and ``forward``. What cannot be done now ends its
workflow and leaves a delayed successor in its place, so an archive that is away for a week costs rows and not
threads, and blocks no other arrival.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from dbos import DBOS, DBOSConfig, SetEnqueueOptions, SetWorkflowID

from gateway import log
from gateway.errors import Misconfigured, Postponed
from gateway.forward import backoff_s
from gateway.schema import ArrivalId, InstanceId
from gateway.stages import Stages, rotated

ACTIVE = ("PENDING", "ENQUEUED", "DELAYED")
VERSION = "2"
"""Of the workflows' shape; those of another version are left to `Pipeline.reconcile`."""

POLLING_S = 0.5
SENDERS = 2

Workflow = Callable[[str, int], None]


class _Stopping(BaseException):
    """Leaves a workflow between two steps without settling it; it goes on with the next start.

    Not an `Exception`: that would end the workflow as failed.
    """


class Pipeline:
    """Runs arrivals from their start until the archive has every instance that may leave.

    One per process: the workflow engine is a singleton.

    Parameters
    ----------
    stages
        The work to be done.
    workflows_url
        SQLAlchemy URL of the workflows' own database.
    in_flight
        Arrivals treated at the same time.
    """

    def __init__(self, stages: Stages, workflows_url: str, in_flight: int = 1) -> None:
        self._stages = stages
        self._workflows_url = workflows_url
        self._in_flight = in_flight
        self._idle = threading.Condition()
        self._active = 0
        self._workflows: Mapping[str, Workflow] = {}

    def start(self) -> None:
        """Open the workflows' database and take up what was unfinished.

        Raises
        ------
        Misconfigured
            The database cannot be used.
        """
        config: DBOSConfig = {
            "name": "anoskin-gateway",
            "system_database_url": self._workflows_url,
            "application_version": VERSION,
            "executor_id": "gateway",
            "enable_otlp": False,
            "log_level": "WARNING",
            "scheduler_polling_interval_sec": 3600.0,
        }
        try:
            DBOS(config=config)
            self._workflows = {
                "treat": _workflow("treat", self._treat),
                "forward": _workflow("forward", self._forward),
            }
            DBOS.launch()
            for stage, width in (("treat", self._in_flight), ("forward", SENDERS)):
                DBOS.register_queue(
                    stage,
                    worker_concurrency=width,
                    polling_interval_sec=POLLING_S,
                    on_conflict="always_update",
                )
        except Exception as error:
            problem = type(error).__name__
            raise Misconfigured(f"[ledger] folder: the workflows cannot be started ({problem}).") from error

    def submit(self, arrival: ArrivalId, attempt: int = 0) -> None:
        """Start an arrival's workflow; starting it again is harmless."""
        self._enqueue("treat", arrival, attempt, 0.0)

    def reconcile(self) -> int:
        """Start again arrivals that have something to do and no workflow to do it; returns their number.

        There are none unless the workflows' database was lost, their version changed, or one of them failed, as it
        does where the disk is too full for its successor.

        Raises
        ------
        Postponed
            The ledger cannot be read now.
        """
        restarted = 0
        for arrival in self._stages.ledger.unsettled():
            known = DBOS.list_workflows(workflow_id_prefix=f"{arrival}-", load_input=False, load_output=False)
            if any(found.status in ACTIVE and found.app_version == VERSION for found in known):
                continue
            last = max((int(found.workflow_id.rsplit("-", 1)[1]) for found in known), default=-1)
            self.submit(arrival, last + 1)
            restarted += 1
        return restarted

    def prune(self, older_than_s: float) -> int:
        """Forget workflows that ended well a while ago; returns their number."""
        before = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(time.time() - older_than_s))
        done = DBOS.list_workflows(
            status="SUCCESS", completed_before=before, load_input=False, load_output=False, limit=1000
        )
        DBOS.delete_workflows([found.workflow_id for found in done])
        return len(done)

    def stop(self, timeout_s: float = 60.0) -> None:
        """Finish the object in hand and let go; everything else goes on with the next start."""
        self._stages.stopping.set()
        with self._idle:
            self._idle.wait_for(lambda: self._active == 0, timeout_s)
        DBOS.destroy(destroy_registry=True)

    def _enqueue(self, stage: str, arrival: str, attempt: int, delay_s: float) -> None:
        """Put a stage into its queue under an id of its own, so that doing so twice is doing so once."""
        queue = DBOS.retrieve_queue(stage)
        assert queue is not None
        options = SetEnqueueOptions(delay_seconds=delay_s if delay_s > 0 else None)
        with SetWorkflowID(f"{arrival}-{stage}-{attempt}"), options:
            queue.enqueue(self._workflows[stage], arrival, attempt)

    def _treat(self, arrival: str, attempt: int) -> None:
        """First stage: every instance of the arrival is settled, or a successor is left."""
        with self._working():
            waiting = DBOS.run_step({"name": "list"}, self._list_waiting, arrival)
            if waiting is None:
                return self._later("treat", arrival, attempt)
            for instance in rotated(waiting, attempt):
                self._leave_if_stopping()
                if not DBOS.run_step({"name": "treat"}, self._stages.treat_one, InstanceId(instance)):
                    # What is ready does not wait for what may never be.
                    DBOS.run_step({"name": "forward"}, self._stages.forward_all, ArrivalId(arrival), attempt)
                    return self._later("treat", arrival, attempt)
            return self._enqueue("forward", arrival, attempt, 0.0)

    def _forward(self, arrival: str, attempt: int) -> None:
        """Second stage: the archive has all that is cleared, or a successor is left."""
        with self._working():
            self._leave_if_stopping()
            if not DBOS.run_step({"name": "forward"}, self._stages.forward_all, ArrivalId(arrival), attempt):
                self._later("forward", arrival, attempt)

    def _list_waiting(self, arrival: str) -> list[str] | None:
        try:
            return [str(instance) for instance in self._stages.waiting(ArrivalId(arrival))]
        except Postponed:
            return None

    def _later(self, stage: str, arrival: str, attempt: int) -> None:
        delay_s = backoff_s(attempt, self._stages.archive)
        log.get().info("arrival.postponed", arrival=arrival, stage=stage, attempt=attempt, seconds=delay_s)
        self._enqueue(stage, arrival, attempt + 1, delay_s)

    def _leave_if_stopping(self) -> None:
        if self._stages.stopping.is_set():
            raise _Stopping

    @contextmanager
    def _working(self) -> Iterator[None]:
        """Count a running workflow, so that `stop` can wait for it."""
        with self._idle:
            self._leave_if_stopping()
            self._active += 1
        try:
            yield
        finally:
            with self._idle:
                self._active -= 1
                self._idle.notify_all()


def _workflow(name: str, method: Workflow) -> Workflow:
    """A method as a workflow, which has to be a function.

    There is no limit of recoveries: objects that end the process are found by the ledger's own count.
    """

    def run(arrival: str, attempt: int) -> None:
        method(arrival, attempt)

    return DBOS.workflow(name=name, max_recovery_attempts=None)(run)
