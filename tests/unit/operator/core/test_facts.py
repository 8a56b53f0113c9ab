"""What metrics tell of one run, also of manifests that other versions have written."""

from __future__ import annotations

from typing import Any

import pytest

from finetune_operator.core.facts import RunFacts, facts

TRAINING: dict[str, Any] = {
    "spec": {"resources": {"nodes": 2, "gpusPerNode": 4}},
    "status": {
        "phase": "Training",
        "stages": [
            {"name": "prepare", "state": "Succeeded", "failures": 1},
            {"name": "train", "state": "Running", "failures": 2},
        ],
        "progress": {"percent": 42, "etaSeconds": 90, "at": "2026-01-31T12:00:00Z"},
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
        {"phase": "Training", "progress": {"percent": "x", "at": "yesterday", "etaSeconds": None}},
    ],
)
def test_no_status_breaks_a_scrape(status: Any) -> None:
    assert facts({"spec": {"resources": None}, "status": status}).gpus == 0
