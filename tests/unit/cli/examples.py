"""Runs as an API server gives them: the status that the operator's own tests use, and a training
run that has seen a failed attempt.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from finetune_cli.view import Run
from unit.operator.api.statuses import FULL_STATUS
from unit.operator.builders import MINIMAL, merged

Json = dict[str, Any]
NOW = datetime(2026, 1, 31, 12, 20, tzinfo=UTC)


def raw(status: Json | None = None, name: str = "gemma-math", **spec: Any) -> Json:
    """A FineTuneJob with this status: the shortest spec with these changes."""
    return {
        "apiVersion": "finetune.dev/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {
            "name": name,
            "namespace": "demo",
            "generation": 1,
            "creationTimestamp": "2026-01-31T11:59:00Z",
        },
        "spec": merged(MINIMAL, spec),
        "status": status or {},
    }


def full() -> Run:
    """Every field of the status has a value."""
    return Run(raw(FULL_STATUS.model_dump(mode="json", by_alias=True)))


TRAINING: Json = {
    "observedGeneration": 1,
    "phase": "Training",
    "stage": "train",
    "startTime": "2026-01-31T12:00:00Z",
    "message": "train runs.",
    "planHash": "0f4c2b6a9d31",
    "conditions": [
        {
            "type": "Ready",
            "status": "False",
            "reason": "Training",
            "message": "train runs.",
            "lastTransitionTime": "2026-01-31T12:01:20Z",
        }
    ],
    "stages": [
        {
            "name": "prepare",
            "state": "Succeeded",
            "attempt": 1,
            "startTime": "2026-01-31T12:00:00Z",
            "completionTime": "2026-01-31T12:01:12Z",
            "message": "12,034 rows, 8.1M tokens.",
        },
        {
            "name": "train",
            "state": "Running",
            "attempt": 2,
            "startTime": "2026-01-31T12:01:20Z",
        },
        {"name": "merge", "state": "Pending"},
        {"name": "upload", "state": "Pending"},
    ],
    "progress": {
        "percent": 42,
        "step": 84,
        "totalSteps": 200,
        "checkpointStep": 80,
        "epoch": "0.42",
        "tokensPerSecond": "12345.6",
        "etaSeconds": 1290,
        "display": {"percent": "42%", "step": "84/200"},
    },
    "metrics": {"loss": "1.2345", "validationLoss": "1.3", "learningRate": "0.00019"},
    "memory": {"estimated": "10Gi"},
    "resolved": {"parameters": 2614341888, "trainableParameters": 20766720},
    "attempts": [
        {
            "stage": "train",
            "attempt": 1,
            "job": "gemma-math-train-1",
            "reason": "OutOfMemory",
            "exitCode": 12,
            "node": "node-1",
            "step": 60,
            "message": "Out of memory.",
        }
    ],
}


def training(**changes: Any) -> Run:
    """A run in its second attempt of train, its status changed as a merge patch would."""
    return Run(raw(merged(TRAINING, changes)))
