"""What a stage that succeeded leaves in status: its termination result, by stage.

Every key is optional and nothing is trusted: another image may keep the contract in its own way.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from finetune_operator.api.status import (
    Artifacts,
    Memory,
    Progress,
    ProgressDisplay,
    Resolved,
    Status,
)
from finetune_operator.core.progress import merged_metrics
from finetune_operator.core.quantity import format_bytes
from finetune_operator.core.text import metric, short, whole
from finetune_operator.vocabulary import Stage

# The last training loss, what was measured on held-out data (of the model, and of its base), and a
# count that tells of trouble.
TRAIN_METRICS = re.compile("loss|validation[A-Z].*|baseValidation[A-Z].*|skippedSteps|bestStep")
# Of status.artifacts, by the stage that makes it.
_MADE = {Stage.MERGE: ("merged",), Stage.UPLOAD: ("repository", "commit", "url")}


def applied(status: Status, stage: Stage, result: Mapping[str, Any], at: str) -> Status:
    """The status with what this stage has found out or made."""
    match stage:
        case Stage.PREPARE:
            return _prepared(status, result)
        case Stage.TRAIN:
            return _trained(status, result, at)
        case Stage.MERGE | Stage.UPLOAD:
            return _made(status, **{key: short(result.get(key)) for key in _MADE[stage]})


def withdrawn(status: Status, stage: Stage) -> Status:
    """The status without what this stage has made, if it comes after training: it is to be made
    anew, or not wanted any more.
    """
    if status.artifacts is None:
        return status
    gone = dict.fromkeys(_MADE.get(stage, ()))
    return status.model_copy(update={"artifacts": status.artifacts.model_copy(update=gone)})


def _prepared(status: Status, result: Mapping[str, Any]) -> Status:
    rows = whole(result.get("rowsKept"))
    return _resolved(
        _memory(status, estimated=result.get("memoryEstimateBytes")),
        model_commit=short(result.get("modelCommit")),
        dataset_commit=short(result.get("datasetCommit")),
        total_steps=whole(result.get("totalSteps")),
        parameters=whole(result.get("parameters")),
        trainable_parameters=whole(result.get("trainableParameters")),
        rows=whole(result.get("rows")) if rows is None else rows,
        tokens=whole(result.get("tokens")),
        supervised_tokens=whole(result.get("supervisedTokens")),
        time_estimate=short(result.get("timeEstimate")),
    )


def _trained(status: Status, result: Mapping[str, Any], at: str) -> Status:
    status = _made(status, adapter=short(result.get("adapter")), merged=short(result.get("merged")))
    status = _memory(status, measured=result.get("peakMemoryBytes"))
    status = _resolved(
        status,
        total_steps=whole(result.get("totalSteps")),
        trainable_parameters=whole(result.get("trainableParameters")),
        strategy=short(result.get("strategy")),
        strategy_reason=short(result.get("strategyReason")),
    )
    metrics = {
        metric(key): metric(value)
        for key, value in result.items()
        if TRAIN_METRICS.fullmatch(key) and value is not None
    }
    return status.model_copy(
        update={
            "progress": _complete(status.progress or Progress(), result, at),
            "metrics": merged_metrics(metrics, status.metrics),
        }
    )


def _complete(progress: Progress, result: Mapping[str, Any], at: str) -> Progress:
    steps, total = whole(result.get("steps")), whole(result.get("totalSteps"))
    step = progress.total_steps if steps is None else steps
    total = step if total is None else total
    found = {
        "epoch": result.get("epoch"),
        "tokens_per_second": result.get("tokensPerSecond"),
    }
    return progress.model_copy(
        update={
            "percent": 100,
            "step": step,
            "total_steps": total,
            "eta_seconds": 0,
            "at": at,
            "display": ProgressDisplay(
                percent="100%", step=None if step is None else f"{step}/{total}"
            ),
            **{key: metric(value) for key, value in found.items() if value is not None},
        }
    )


def _made(status: Status, **made: str | None) -> Status:
    found = {key: value for key, value in made.items() if value is not None}
    artifacts = (status.artifacts or Artifacts()).model_copy(update=found)
    return status.model_copy(update={"artifacts": artifacts})


def _resolved(status: Status, **values: str | int | None) -> Status:
    found = {key: value for key, value in values.items() if value is not None}
    resolved = (status.resolved or Resolved()).model_copy(update=found)
    return status.model_copy(update={"resolved": resolved})


def _memory(status: Status, **values: Any) -> Status:
    counts = {key: whole(value) for key, value in values.items()}
    found = {key: format_bytes(count) for key, count in counts.items() if count is not None}
    if not found:
        return status
    memory = (status.memory or Memory()).model_copy(update=found)
    return status.model_copy(update={"memory": memory})
