"""What metrics tell of one run, also of manifests that other versions have written."""

from __future__ import annotations

from typing import Any

import pytest

from finetune_operator.core.facts import LastFailure, RunFacts, facts

TRAINING: dict[str, Any] = {
    "spec": {"resources": {"nodes": 2, "gpusPerNode": 4}},
    "status": {
        "phase": "Training",
        "stages": [
            {"name": "prepare", "state": "Succeeded", "failures": 1},
            {"name": "train", "state": "Running", "failures": 2, "attempt": 3},
        ],
        "progress": {"percent": 42, "etaSeconds": 90, "at": "2026-01-31T12:00:00Z"},
        "attempts": [
            {"stage": "train", "reason": "Crashed", "finishedAt": "2026-01-31T10:00:00Z"},
            {"stage": "train", "reason": "Evicted", "finishedAt": "2026-01-31T11:00:00Z"},
        ],
    },
}


def test_a_run_in_training_tells_budget_and_progress() -> None:
    assert facts(TRAINING) == RunFacts(
        phase="Training",
        gpus=8,
        stage="train",
        failures=2,
        attempts_left=1,
        progress=0.42,
        reported=1769860800.0,
        remaining=90.0,
        attempt=3,
        last_failure=LastFailure("train", "Evicted", 1769857200.0),
    )


def test_memory_has_a_budget_of_its_own() -> None:
    stages = [{"name": "train", "state": "Running", "outOfMemory": 1}]
    found = facts({"status": {"phase": "Training", "stages": stages}})
    assert (found.failures, found.attempts_left) == (1, 1)


def test_a_run_that_nobody_looked_at_is_pending() -> None:
    assert facts({"spec": {}}) == RunFacts("Pending", 0)


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_run_that_has_ended_tells_nothing_but_that(phase: str) -> None:
    found = facts({**TRAINING, "status": {**TRAINING["status"], "phase": phase}})
    assert found == RunFacts(phase, 8)
    assert found.ended


@pytest.mark.parametrize(
    "status",
    [
        [],
        {"phase": 7, "stages": "none", "progress": 1},
        {"phase": "Unheard", "stages": [None, {"name": "unheard"}]},
        {"phase": "Training", "stages": [{"name": "train", "failures": "many"}]},
        {"phase": "Training", "stages": [{"name": "train"}], "attempts": [{"finishedAt": 7}]},
        {"phase": "Failed", "conditions": [{"type": "Failed"}], "completionTime": "yesterday"},
        {"phase": "Training", "progress": {"percent": "x", "at": "yesterday", "etaSeconds": None}},
    ],
)
def test_no_status_breaks_a_scrape(status: Any) -> None:
    assert facts({"spec": {"resources": None}, "status": status}).gpus == 0


def test_a_failed_run_tells_when_where_and_why() -> None:
    conditions = [
        {"type": "Ready", "status": "False", "reason": "OutOfMemory"},
        {"type": "Failed", "status": "True", "reason": "OutOfMemory"},
    ]
    ended = {"phase": "Failed", "conditions": conditions, "completionTime": "2026-01-31T12:00:00Z"}
    found = facts({**TRAINING, "status": {**TRAINING["status"], **ended}})
    assert found.last_failure == LastFailure("train", "OutOfMemory", 1769860800.0)


def test_a_run_that_was_refused_before_its_first_stage_tells_no_stage() -> None:
    refused = {
        "phase": "Failed",
        "conditions": [{"type": "Failed", "status": "True", "reason": "NotAllowed"}],
        "completionTime": "2026-01-31T12:00:00Z",
    }
    assert facts({"status": refused}).last_failure == LastFailure("", "NotAllowed", 1769860800.0)
