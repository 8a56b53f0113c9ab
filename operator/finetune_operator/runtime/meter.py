"""What the operator counts about itself and about work that has ended. One registry, served as is.

Counters start at 0 with the process, as Prometheus expects: `rate` and `increase` see the reset.
What stands now (runs by phase, GPUs) is computed at a scrape, in census.py, and cannot drift.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector

from finetune_operator import __version__
from finetune_operator.api.resource import FineTuneJob
from finetune_operator.api.status import Status
from finetune_operator.core import ends
from finetune_operator.core.facts import gpus_of
from finetune_operator.core.model import Observed
from finetune_operator.kube.client import Call
from finetune_operator.vocabulary import Stage

FAST = (0.001, 0.005, 0.02, 0.1, 0.5, 2, 10, 60)
"""Buckets of what should take moments, in seconds."""
LONG = (10, 30, 60, 300, 900, 3600, 4 * 3600, 12 * 3600, 24 * 3600, 72 * 3600)
"""Buckets of stages."""


class Meter:
    """All instruments of one operator."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        build = Info("finetune_operator_build", "Version of the operator", registry=registry)
        build.info({"version": __version__, "python": platform.python_version()})
        self._depth = Gauge(
            "finetune_operator_queue_depth", "Runs that wait for a worker", registry=registry
        )
        self._waited = Histogram(
            "finetune_operator_queue_wait_seconds",
            "Time that a run waited for a worker",
            buckets=FAST,
            registry=registry,
        )
        self._looked = Histogram(
            "finetune_operator_reconcile_duration_seconds",
            "Time of one look at one run, its API calls included",
            buckets=FAST,
            registry=registry,
        )
        self._reconciles = Counter(
            "finetune_operator_reconciles",
            "Looks at runs by outcome: Done, Conflict (a newer version is on its way), ApiError, "
            "Error",
            ["outcome"],
            registry=registry,
        )
        self._calls = Counter(
            "finetune_operator_api_requests",
            "Calls to the API server without watches, by HTTP status; 0: no answer",
            ["verb", "resource", "code"],
            registry=registry,
        )
        self._call_seconds = Histogram(
            "finetune_operator_api_request_duration_seconds",
            "Time of one call to the API server",
            ["verb"],
            buckets=FAST,
            registry=registry,
        )
        self._watches = Gauge(
            "finetune_operator_watches", "Watches that must be alive", registry=registry
        )
        self._live = Gauge(
            "finetune_operator_watches_live", "Watches that are alive", registry=registry
        )
        self._events = Counter(
            "finetune_operator_watch_events",
            "Events that watches have told, by resource",
            ["resource"],
            registry=registry,
        )
        self._resync = Gauge(
            "finetune_operator_last_resync_timestamp_seconds",
            "When everything was last listed with success, in seconds since the epoch",
            registry=registry,
        )
        self._attempts = Counter(
            "finetune_attempts",
            "Attempts of stages that have ended, by reason: Succeeded, Stopped, or why it failed",
            ["namespace", "stage", "reason"],
            registry=registry,
        )
        self._stages = Histogram(
            "finetune_stage_duration_seconds",
            "Time from a stage's first attempt to its end, pauses and waits included",
            ["stage", "outcome"],
            buckets=LONG,
            registry=registry,
        )
        for stage in Stage:
            for outcome in (ends.SUCCEEDED, ends.FAILED):
                # The first stage that ends must be an increase, too.
                self._stages.labels(str(stage), outcome)
        self._gpu_seconds = Counter(
            "finetune_gpu_seconds",
            "GPUs of training attempts times the time that their pods ran, counted when they end; "
            "of an attempt whose pods are gone since its Job's start",
            ["namespace", "outcome"],
            registry=registry,
        )

    def follow(
        self,
        *,
        depth: Callable[[], int],
        expected: int,
        missing: Callable[[], Sequence[str]],
    ) -> None:
        """Ask for these at every scrape."""
        self._depth.set_function(depth)
        self._watches.set(expected)
        self._live.set_function(lambda: expected - len(missing()))

    def waited(self, seconds: float) -> None:
        """A run waited this long in the queue."""
        self._waited.observe(seconds)

    def looked(self, outcome: str, seconds: float) -> None:
        """A worker has looked at a run."""
        self._reconciles.labels(outcome).inc()
        self._looked.observe(seconds)

    def called(self, call: Call) -> None:
        """A call to the API server is over."""
        self._calls.labels(call.verb, call.resource, str(call.code)).inc()
        self._call_seconds.labels(call.verb).observe(call.seconds)

    def told(self, resource: str) -> None:
        """A watch has told something."""
        self._events.labels(resource).inc()

    def resynced(self) -> None:
        """Everything has been listed."""
        self._resync.set_to_current_time()

    def know(self, namespace: str) -> None:
        """A namespace has runs: its counters start at 0, or their first increase would be lost."""
        for outcome in ends.OUTCOMES:
            self._gpu_seconds.labels(namespace, outcome)

    def written(
        self, resource: FineTuneJob, status: Status, observed: Observed, now: datetime
    ) -> None:
        """This status has taken the place of the resource's: count what has ended."""
        namespace, old = resource.metadata.namespace, resource.status
        gpus = gpus_of(resource.spec.model_dump(mode="json", by_alias=True, include={"resources"}))
        for attempt in ends.attempts_ended(old, status, observed, now):
            self._attempts.labels(namespace, str(attempt.stage), attempt.reason).inc()
            if attempt.stage is Stage.TRAIN and attempt.seconds is not None:
                counter = self._gpu_seconds.labels(namespace, attempt.outcome)
                counter.inc(gpus * attempt.seconds)
        for stage in ends.stages_ended(old, status):
            self._stages.labels(str(stage.stage), stage.outcome).observe(stage.seconds)
