"""What a scrape tells of the runs in the store."""

from __future__ import annotations

from typing import Any

from finetune_operator.runtime.census import Census
from finetune_operator.runtime.meter import Meter
from finetune_operator.runtime.store import Store
from unit.operator.builders import MINIMAL
from unit.operator.runtime.manifests import job, run
from unit.operator.runtime.scraped import Series, of, scrape

ON_FOUR_GPUS = {**MINIMAL, "resources": {"nodes": 2, "gpusPerNode": 2}}
TRAINING: dict[str, Any] = {
    "phase": "Training",
    "stages": [{"name": "train", "state": "Running", "failures": 2, "attempt": 3}],
    "attempts": [
        {
            "stage": "train",
            "attempt": 2,
            "reason": "OutOfMemory",
            "finishedAt": "2026-01-31T11:00:00Z",
        }
    ],
    "progress": {"percent": 42, "at": "2026-01-31T12:00:00Z", "etaSeconds": 90},
}
LABELS = {"finetunejob": "demo", "namespace": "team-a"}


def counted(store: Store, now: float = 0.0) -> dict[Series, float]:
    meter = Meter()
    meter.registry.register(Census(store, lambda: now))
    return scrape(meter.registry)


def training(name: str = "demo", version: int = 1) -> dict[str, Any]:
    return run(name=name, uid=f"uid-{name}", version=version, spec=ON_FOUR_GPUS, status=TRAINING)


def its_job(version: int = 1, ready: int = 0) -> dict[str, Any]:
    made = job(version=version, owner="uid-demo", status={"ready": ready})
    made["spec"]["parallelism"] = 2
    return made


def test_runs_are_counted_by_namespace_and_phase() -> None:
    store = Store()
    store.put_run(training())
    store.put_run(run(uid="new", name="new"))
    store.put_run(run(uid="done", name="done", status={"phase": "Succeeded"}))
    assert of(counted(store), "finetune_runs") == {
        ("team-a", "Training"): 1,
        ("team-a", "Pending"): 1,
        ("team-a", "Succeeded"): 1,
    }


def test_gpus_wait_until_every_pod_of_the_run_has_started() -> None:
    store = Store()
    store.put_run(training())
    store.put_job(its_job(ready=1))
    found = counted(store)
    assert of(found, "finetune_gpus") == {("team-a", "Waiting"): 4}
    assert of(found, "finetunejob_waiting_gpus") == {("demo", "team-a"): 4}
    store.put_job(its_job(version=2, ready=2))
    found = counted(store)
    assert of(found, "finetune_gpus") == {("team-a", "Running"): 4}
    assert of(found, "finetunejob_waiting_gpus") == {("demo", "team-a"): 0}


def test_a_run_under_way_tells_where_it_stands() -> None:
    store = Store()
    store.put_run(training())
    found = counted(store)
    mine = {name: value for (name, labels), value in found.items() if name.startswith("finetunej")}
    assert mine == {
        "finetunejob_info": 1,
        "finetunejob_waiting_gpus": 0,
        "finetunejob_stage_failures": 2,
        "finetunejob_attempts_left": 1,
        "finetunejob_progress_ratio": 0.42,
        "finetunejob_progress_timestamp_seconds": 1769860800,
        "finetunejob_remaining_seconds": 90,
        "finetunejob_stage_attempt": 3,
        "finetunejob_last_failure_timestamp_seconds": 1769857200,
    }


def test_a_run_that_has_ended_has_no_series_of_its_own() -> None:
    store = Store()
    store.put_run(run(status={**TRAINING, "phase": "Failed"}))
    assert not [name for name, _ in counted(store) if name.startswith("finetunejob_")]


def test_a_run_that_is_deleted_leaves_no_series() -> None:
    store = Store()
    store.put_run(training())
    store.put_job(its_job())
    store.drop_run(training())
    found = counted(store)
    assert of(found, "finetune_runs") == of(found, "finetune_gpus") == {}
    assert not [name for name, _ in found if name.startswith("finetunejob_")]


def test_ten_thousand_runs_stay_within_their_budget() -> None:
    store = Store()
    for number in range(10_000):
        name, ended = f"run-{number}", number >= 100
        status = {"phase": "Succeeded"} if ended else TRAINING
        store.put_run(run(uid=name, name=name, status=status))
    found = counted(store)
    own = [labels for name, labels in found if name.startswith("finetunejob_")]
    assert len(own) <= 100 * 25
    assert len(found) - len(own) <= 400


def test_the_latest_failure_of_a_run_under_way_tells_stage_and_reason() -> None:
    store = Store()
    store.put_run(training())
    found = of(counted(store), "finetunejob_last_failure_timestamp_seconds")
    assert found == {("demo", "team-a", "OutOfMemory", "train"): 1769857200}


def test_a_run_that_has_failed_is_told_for_an_hour() -> None:
    store = Store()
    failed = {"type": "Failed", "status": "True", "reason": "UserError"}
    ended = {"phase": "Failed", "conditions": [failed], "completionTime": "2026-01-31T12:00:00Z"}
    store.put_run(run(status={**TRAINING, **ended}))
    at = 1769860800
    name = "finetunejob_failed_timestamp_seconds"
    assert of(counted(store, at + 3599), name) == {("demo", "team-a", "UserError", "train"): at}
    assert [series for series in counted(store, at + 3599) if "finetunejob_" in series[0]] == [
        (name, tuple(sorted({**LABELS, "reason": "UserError", "stage": "train"}.items())))
    ]
    assert of(counted(store, at + 3600), name) == {}
