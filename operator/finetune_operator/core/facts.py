"""What metrics tell of one run: a few values of its manifest, so that a scrape parses nothing.

The manifest is taken as it is: another version's status must not break a scrape.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from finetune_operator.core.attempts import ATTEMPTS, ATTEMPTS_OUT_OF_MEMORY
from finetune_operator.core.status import FINAL
from finetune_operator.vocabulary import Phase, Stage, StageState


@dataclass(frozen=True, slots=True)
class RunFacts:
    """Where a run stands. `stage` and what follows it are None once it has ended."""

    phase: str
    gpus: int
    stage: str | None = None
    failures: int = 0
    attempts_left: int | None = None
    progress: float | None = None  # 0 to 1
    reported: float | None = None  # seconds since the epoch
    remaining: float | None = None  # seconds

    @property
    def ended(self) -> bool:
        return self.phase in FINAL


def facts(manifest: Mapping[str, Any]) -> RunFacts:
    """The facts of a FineTuneJob as the API server shows it."""
    status = _mapping(manifest.get("status"))
    phase = _one_of(status.get("phase"), Phase) or str(Phase.PENDING)
    gpus = gpus_of(_mapping(manifest.get("spec")))
    if phase in FINAL:
        return RunFacts(phase, gpus)
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
    )


def gpus_of(spec: Mapping[str, Any]) -> int:
    """GPUs that training asks for over all nodes."""
    resources = _mapping(spec.get("resources"))
    nodes, each = resources.get("nodes", 1), resources.get("gpusPerNode", 0)
    return nodes * each if isinstance(nodes, int) and isinstance(each, int) else 0


def _current(status: Mapping[str, Any]) -> Mapping[str, Any]:
    entries = status.get("stages")
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, Mapping) and entry.get("state") != StageState.SUCCEEDED:
            return entry
    return {}


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


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
