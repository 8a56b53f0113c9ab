from __future__ import annotations

from typing import Any

import pytest

from finetune_operator.core.model import JobState
from finetune_operator.runtime.jobs import owner_of, project
from finetune_operator.vocabulary import API_VERSION, Stage
from unit.operator.runtime.manifests import condition, job


@pytest.mark.parametrize(
    ("name", "status", "state"),
    [
        ("nothing has happened yet", {}, JobState.WAITING),
        ("a pod exists but is not ready", {"active": 1, "ready": 0}, JobState.WAITING),
        ("a pod is ready", {"active": 1, "ready": 1}, JobState.RUNNING),
        (
            "its pod has ended and is not counted yet",
            {"uncountedTerminatedPods": {"succeeded": ["a"]}},
            JobState.RUNNING,
        ),
        ("its pod is being stopped", {"terminating": 1}, JobState.STOPPING),
        (
            "it will succeed",
            {"succeeded": 1, "conditions": [condition("SuccessCriteriaMet")]},
            JobState.RUNNING,
        ),
        ("it has succeeded", {"conditions": [condition("Complete")]}, JobState.SUCCEEDED),
        (
            "it will fail, but pods still run",
            {"ready": 1, "conditions": [condition("FailureTarget")]},
            JobState.STOPPING,
        ),
        ("it has failed", {"conditions": [condition("Failed")]}, JobState.FAILED),
        ("it is suspended", {"conditions": [condition("Suspended")]}, JobState.SUSPENDED),
        (
            "it was suspended",
            {"conditions": [{"type": "Suspended", "status": "False"}]},
            JobState.WAITING,
        ),
    ],
)
def test_state(name: str, status: dict[str, Any], state: JobState) -> None:
    record = project(job(status=status))
    assert record is not None
    assert record.state == state, name


@pytest.mark.parametrize(
    ("name", "status", "state"),
    [
        ("no pod is ready", {"active": 2}, JobState.WAITING),
        ("one of two pods is stuck", {"active": 2, "ready": 1}, JobState.WAITING),
        ("one of two pods was refused", {"active": 1, "ready": 1}, JobState.WAITING),
        ("both run", {"active": 2, "ready": 2}, JobState.RUNNING),
        ("one is done before the other", {"ready": 1, "succeeded": 1}, JobState.RUNNING),
        (
            "one is done and not counted yet",
            {"ready": 1, "uncountedTerminatedPods": {"succeeded": ["a"]}},
            JobState.RUNNING,
        ),
        (
            "one was lost with its node",
            {"active": 1, "ready": 1, "terminating": 1},
            JobState.STOPPING,
        ),
    ],
)
def test_state_of_a_job_with_two_pods(name: str, status: dict[str, Any], state: JobState) -> None:
    record = project({**job(status=status), "spec": {"parallelism": 2}})
    assert record is not None
    assert record.state == state, name


def test_a_job_that_is_deleted_is_neither_running_nor_gone() -> None:
    record = project(job(status={"ready": 1}, deletionTimestamp="2026-01-31T12:00:00Z"))
    assert record is not None
    assert record.state == JobState.DELETING


def test_how_it_ended_counts_more_than_its_deletion() -> None:
    status = {"conditions": [condition("Complete")]}
    record = project(job(status=status, deletionTimestamp="2026-01-31T12:00:00Z"))
    assert record is not None
    assert record.state == JobState.SUCCEEDED


def test_a_failed_job_tells_why_and_when() -> None:
    failed = condition(
        "Failed",
        reason="PodFailurePolicy",
        message="pod x",
        lastTransitionTime="2026-01-31T12:00:00Z",
    )
    record = project(job(attempt=3, status={"conditions": [failed], "startTime": "earlier"}))
    assert record is not None
    assert (record.stage, record.attempt, record.plan_hash) == (Stage.TRAIN, 3, "0123")
    assert (record.reason, record.message) == ("PodFailurePolicy", "pod x")
    assert (record.start_time, record.completion_time) == ("earlier", "2026-01-31T12:00:00Z")


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": {}},
        {"ownerReferences": []},
        {"stage": "cook"},
        {"attempt": "first"},
        {"attempt": 0},
        {"attempt": -1},
        {"attempt": 10000},
        {"name": "demo-train-2"},
        {"name": "other-train-1"},
    ],
)
def test_other_jobs_are_nobodys(changes: dict[str, Any]) -> None:
    assert project(job(**changes)) is None


def test_only_a_controller_owns() -> None:
    reference = {"apiVersion": API_VERSION, "kind": "FineTuneJob", "name": "demo", "uid": "x"}
    assert owner_of(job(ownerReferences=[reference])) is None
    assert owner_of(job(ownerReferences=[{**reference, "controller": True}])) == ("demo", "x")


def test_a_kind_of_that_name_in_another_group_owns_nothing() -> None:
    reference = {"kind": "FineTuneJob", "name": "demo", "uid": "x", "controller": True}
    for group in ("example.com/v1", "finetune.dev.example.com/v1", "v1"):
        assert owner_of(job(ownerReferences=[{**reference, "apiVersion": group}])) is None
