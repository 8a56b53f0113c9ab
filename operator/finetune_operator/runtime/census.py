"""What stands now, counted from the store at every scrape: nothing is kept, so nothing drifts.

A run that has ended has no series of its own, and one that is deleted is in no count: series are
bounded by the runs that are under way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from finetune_operator.core.facts import RunFacts
from finetune_operator.core.model import JobState
from finetune_operator.runtime.store import Key, Store
from finetune_operator.vocabulary import Stage

OF_RUN = ("namespace", "finetunejob")
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
    """Counts the runs of a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

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
        yield from _of_each({key: run for key, run in runs.items() if not run.ended}, training)


def _of_each(runs: dict[Key, RunFacts], training: dict[Key, JobState]) -> Iterator[Metric]:
    info = GaugeMetricFamily(
        "finetunejob_info", "1 for each run under way", labels=[*OF_RUN, "phase", "stage"]
    )
    waiting = GaugeMetricFamily(
        "finetunejob_waiting_gpus",
        "GPUs that a run waits for: of its training pods at least one has not started",
        labels=OF_RUN,
    )
    for key, run in runs.items():
        info.add_metric([*key, run.phase, run.stage or ""], 1)
        if run.stage == Stage.TRAIN:
            waits = training.get(key) is JobState.WAITING
            waiting.add_metric(key, run.gpus if waits else 0)
    yield info
    yield waiting
    for name, (text, value) in _VALUES.items():
        family = GaugeMetricFamily(name, text, labels=OF_RUN)
        for key, run in runs.items():
            found = value(run)
            if found is not None:
                family.add_metric(key, found)
        yield family


def _counted(name: str, text: str, label: str, counts: Counter[tuple[str, str]]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=["namespace", label])
    for labels, count in sorted(counts.items()):
        family.add_metric(labels, count)
    return family
