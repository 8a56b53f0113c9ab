"""What stands now, counted from the store at every scrape: nothing is kept, so nothing drifts.

A run that has ended has no series of its own, but for one that tells of a failure for an hour; and
one that is deleted is in no count: series are bounded by the runs that are under way.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from finetune_operator.core.facts import RunFacts
from finetune_operator.core.model import JobState
from finetune_operator.runtime.store import Key, Store
from finetune_operator.vocabulary import Stage

OF_RUN = ("namespace", "finetunejob")
FAILURE_TOLD_SECONDS = 3600.0
"""How long a run that has failed has a series: long enough for an alert to name it."""
_VALUES: dict[str, tuple[str, Callable[[RunFacts], float | None]]] = {
    "finetunejob_stage_failures": (
        "Failed attempts of the current stage that count",
        lambda run: run.failures if run.stage else None,
    ),
    "finetunejob_attempts_left": (
        "Attempts that the current stage may have yet, the one that runs included, by the tighter "
        "of its two budgets (failures, out of memory)",
        lambda run: run.attempts_left,
    ),
    "finetunejob_progress_ratio": ("Share of the steps of training done", lambda r: r.progress),
    "finetunejob_progress_timestamp_seconds": (
        "When training last reported its progress, in seconds since the epoch",
        lambda run: run.reported,
    ),
    "finetunejob_remaining_seconds": ("Estimated time of training left", lambda r: r.remaining),
}


class Census(Collector):
    """Counts the runs of a store; `clock` gives seconds since the epoch."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock

    def describe(self) -> list[Metric]:
        """Nothing: what there is depends on the runs."""
        return []

    def collect(self) -> Iterator[Metric]:
        runs = {key: entry.facts for key, entry in self._store.entries()}
        training = {key: state for key, state in self._store.training() if key in runs}
        yield _counted(
            "finetune_runs",
            "FineTuneJobs by phase",
            "phase",
            Counter((key[0], run.phase) for key, run in runs.items()),
        )
        gpus: Counter[tuple[str, str]] = Counter()
        for key, state in training.items():
            gpus[key[0], str(state)] += runs[key].gpus
        yield _counted(
            "finetune_gpus",
            "GPUs that training under way asks for: Running, Waiting for pods to start, Suspended "
            "(queued), Stopping, Deleting",
            "state",
            gpus,
        )
        under_way = {key: run for key, run in runs.items() if not run.ended}
        yield from _of_each(under_way, training)
        yield _failures(
            "finetunejob_last_failure_timestamp_seconds",
            "When the latest failed attempt of a run under way ended, in seconds since the epoch",
            under_way,
        )
        since = self._clock() - FAILURE_TOLD_SECONDS
        yield _failures(
            "finetunejob_failed_timestamp_seconds",
            "When a run failed, in seconds since the epoch; for an hour after that",
            {
                key: run
                for key, run in runs.items()
                if run.ended and run.last_failure and run.last_failure.at > since
            },
        )


def _of_each(runs: dict[Key, RunFacts], training: dict[Key, JobState]) -> Iterator[Metric]:
    info = GaugeMetricFamily(
        "finetunejob_info", "1 for each run under way", labels=[*OF_RUN, "phase", "stage"]
    )
    waiting = GaugeMetricFamily(
        "finetunejob_waiting_gpus",
        "GPUs that a run waits for: of its training pods at least one has not started",
        labels=OF_RUN,
    )
    attempt = GaugeMetricFamily(
        "finetunejob_stage_attempt",
        "Number of the current stage's latest attempt",
        labels=[*OF_RUN, "stage"],
    )
    for key, run in runs.items():
        info.add_metric([*key, run.phase, run.stage or ""], 1)
        if run.stage == Stage.TRAIN:
            waits = training.get(key) is JobState.WAITING
            waiting.add_metric(key, run.gpus if waits else 0)
        if run.stage and run.attempt:
            attempt.add_metric([*key, run.stage], run.attempt)
    yield info
    yield waiting
    yield attempt
    for name, (text, value) in _VALUES.items():
        family = GaugeMetricFamily(name, text, labels=OF_RUN)
        for key, run in runs.items():
            found = value(run)
            if found is not None:
                family.add_metric(key, found)
        yield family


def _failures(name: str, text: str, runs: Mapping[Key, RunFacts]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=[*OF_RUN, "stage", "reason"])
    for key, run in runs.items():
        if failure := run.last_failure:
            family.add_metric([*key, failure.stage, failure.reason], failure.at)
    return family


def _counted(name: str, text: str, label: str, counts: Counter[tuple[str, str]]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=["namespace", label])
    for labels, count in sorted(counts.items()):
        family.add_metric(labels, count)
    return family
