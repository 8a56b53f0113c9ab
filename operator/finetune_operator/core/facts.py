"""What metrics tell of one run: a few values of its manifest, so that a scrape parses nothing.

The manifest is taken as it is: another version's status must not break a scrape.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from finetune_operator.core.attempts import ATTEMPTS, ATTEMPTS_OUT_OF_MEMORY
from finetune_operator.core.status import FINAL
from finetune_operator.vocabulary import ConditionType, Phase, Stage, StageState


@dataclass(frozen=True, slots=True)
class LastFailure:
    """What went wrong last: of a run under way a failed attempt, of a failed one its end.

    `at` is in seconds since the epoch; `stage` is "" if the run was refused before its first.
    """

    stage: str
    reason: str
    at: float


@dataclass(frozen=True, slots=True)
class RunFacts:
    """Where a run stands. `stage` and what follows it are None or 0 once it has ended, but for
    `last_failure`.
    """

    phase: str
    gpus: int
    stage: str | None = None
    failures: int = 0
    attempts_left: int | None = None
    progress: float | None = None  # 0 to 1
    reported: float | None = None  # seconds since the epoch
    remaining: float | None = None  # seconds
    attempt: int = 0
    last_failure: LastFailure | None = None

    @property
    def ended(self) -> bool:
        return self.phase in FINAL


def facts(manifest: Mapping[str, Any]) -> RunFacts:
    """The facts of a FineTuneJob as the API server shows it."""
    status = _mapping(manifest.get("status"))
    phase = _one_of(status.get("phase"), Phase) or str(Phase.PENDING)
    gpus = gpus_of(_mapping(manifest.get("spec")))
    if phase in FINAL:
        return RunFacts(phase, gpus, last_failure=_end(status) if phase == Phase.FAILED else None)
    entry = _current(status)
    stage = _one_of(entry.get("name"), Stage)
    if stage is None:
        return RunFacts(phase, gpus)
    failures, out_of_memory = _count(entry, "failures"), _count(entry, "outOfMemory")
    training = stage == Stage.TRAIN and phase == Phase.TRAINING
    progress = _mapping(status.get("progress")) if training else {}
    percent, remaining = progress.get("percent"), progress.get("etaSeconds")
    return RunFacts(
        phase,
        gpus,
        stage,
        failures + out_of_memory,
        max(0, min(ATTEMPTS - failures, ATTEMPTS_OUT_OF_MEMORY - out_of_memory)),
        percent / 100 if isinstance(percent, int) else None,
        _moment(progress.get("at")),
        float(remaining) if isinstance(remaining, int) else None,
        _count(entry, "attempt"),
        _latest(status),
    )


def gpus_of(spec: Mapping[str, Any]) -> int:
    """GPUs that training asks for over all nodes."""
    resources = _mapping(spec.get("resources"))
    nodes, each = resources.get("nodes", 1), resources.get("gpusPerNode", 0)
    return nodes * each if isinstance(nodes, int) and isinstance(each, int) else 0


def _current(status: Mapping[str, Any]) -> Mapping[str, Any]:
    for entry in _mappings(status.get("stages")):
        if entry.get("state") != StageState.SUCCEEDED:
            return entry
    return {}


def _end(status: Mapping[str, Any]) -> LastFailure | None:
    for condition in _mappings(status.get("conditions")):
        if condition.get("type") == ConditionType.FAILED:
            stage = _current(status).get("name")
            return _failure(stage, condition.get("reason"), status.get("completionTime"))
    return None


def _latest(status: Mapping[str, Any]) -> LastFailure | None:
    found = [*_mappings(status.get("attempts"))]
    attempt = found[-1] if found else {}
    return _failure(attempt.get("stage"), attempt.get("reason"), attempt.get("finishedAt"))


def _failure(stage: Any, reason: Any, at: Any) -> LastFailure | None:
    moment = _moment(at)
    if moment is None or not isinstance(reason, str):
        return None
    return LastFailure(_one_of(stage, Stage) or "", reason, moment)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _mappings(value: Any) -> Iterator[Mapping[str, Any]]:
    for each in value if isinstance(value, list) else ():
        if isinstance(each, Mapping):
            yield each


def _one_of(value: Any, words: type[Phase] | type[Stage]) -> str | None:
    """Of the words' own strings, which all runs share; None for any other."""
    return str(words(value)) if value in set(words) else None


def _count(entry: Mapping[str, Any], field: str) -> int:
    value = entry.get(field, 0)
    return value if isinstance(value, int) else 0


def _moment(text: Any) -> float | None:
    try:
        return datetime.fromisoformat(text).timestamp()
    except (TypeError, ValueError):
        return None
