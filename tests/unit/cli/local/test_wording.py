"""No sentence of the core speaks of Jobs, kubectl or tokens to somebody without a cluster."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from finetune_cli.local.wording import localized, shown
from finetune_operator.api.status import Status
from finetune_operator.core.decide import decide
from finetune_operator.core.model import JobRecord, JobState, Observed, Plan, Termination
from unit.operator.builders import NOW, SETTINGS, ended, job, plan, resource

FOREIGN = re.compile(r"\bJob\b|kubectl|rerunToken|spec\.suspend")


def log(name: str) -> Path:
    return Path("/runs/demo/local/logs") / f"{name}.log"


def status_after(left: Termination | None, *, suspend: bool = False, attempts: int = 1) -> Status:
    """Of a run whose prepare ended like this, so many times."""
    status, jobs, made = Status(), [], plan()
    status = _decided(status, [], {}, made)
    for attempt in range(1, attempts + 1):
        name = f"demo-prepare-{attempt}"
        state = JobState.RUNNING if left is None else JobState.FAILED
        jobs.append(job("prepare", attempt, state, of=made))
        status = _decided(status, jobs, {name: left} if left else {}, made, suspend=suspend)
    return status


def _decided(
    status: Status,
    jobs: list[JobRecord],
    left: dict[str, Termination],
    made: Plan,
    *,
    suspend: bool = False,
) -> Status:
    run = resource(status=status, suspend=suspend or None)
    seen = Observed(resource=run, jobs=tuple(jobs), terminations=left, plan=made)
    return decide(seen, SETTINGS, NOW).status


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (status_after(None), "prepare runs."),
        (
            status_after(None, suspend=True),
            "Suspended in prepare: run the same command again to go on.",
        ),
        (
            status_after(ended(10, "There is no such column.")),
            "There is no such column. Correct it, then run the same command again.",
        ),
        (
            status_after(ended(11, "The Hub does not answer."), attempts=3),
            "The Hub does not answer. For another try run the same command again.",
        ),
        (
            status_after(ended(1), attempts=3),
            "prepare ended with exit code 1 and no explanation; "
            f"{log('demo-prepare-3')} says more. For another try run the same command again.",
        ),
    ],
    ids=["runs", "suspended", "wrong", "used up", "crashed"],
)
def test_a_sentence_is_true_here(status: Status, sentence: str) -> None:
    said = localized(status.message or "", log)
    assert said == sentence
    assert not FOREIGN.search(said)


def test_what_is_shown_has_its_directory_for_a_namespace() -> None:
    status = status_after(ended(10, "No.")).model_dump(mode="json", by_alias=True)
    document = {"metadata": {"name": "demo", "namespace": "default"}, "status": status}
    found = shown(document, Path("/runs/demo"), log)
    assert found["metadata"]["namespace"] == "/runs/demo"
    assert found["status"]["message"] == "No. Correct it, then run the same command again."
    assert document["metadata"]["namespace"] == "default"
