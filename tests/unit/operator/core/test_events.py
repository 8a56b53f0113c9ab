from typing import Any

import pytest

from finetune_operator.api.status import Attempt, Condition, StageStatus, Status
from finetune_operator.core.events import between
from finetune_operator.core.moments import to_text
from finetune_operator.vocabulary import Phase, Stage, StageState
from unit.operator.builders import NOW

PENDING, RUNNING = StageState.PENDING, StageState.RUNNING
SUCCEEDED, FAILED = StageState.SUCCEEDED, StageState.FAILED


def prepare(state: StageState, attempt: int = 1, **fields: Any) -> StageStatus:
    job = f"demo-prepare-{attempt}" if attempt else None
    return StageStatus(name=Stage.PREPARE, state=state, attempt=attempt, job=job, **fields)


def train(state: StageState, attempt: int = 1, **fields: Any) -> StageStatus:
    job = f"demo-train-{attempt}" if attempt else None
    return StageStatus(name=Stage.TRAIN, state=state, attempt=attempt, job=job, **fields)


def status(phase: Phase, *stages: StageStatus, **fields: Any) -> Status:
    return Status(phase=phase, stages=list(stages), **fields)


def not_ready(reason: str) -> list[Condition]:
    """The condition that says how things stand."""
    return [
        Condition(type="Ready", status="False", reason=reason, last_transition_time=to_text(NOW))
    ]


def training(reason: str, **fields: Any) -> Status:
    return status(Phase.TRAINING, DONE, train(RUNNING), conditions=not_ready(reason), **fields)


EVICTED = Attempt(stage=Stage.TRAIN, attempt=1, job="j", reason="Evicted", message="Evicted.")
DONE = prepare(SUCCEEDED, message="1900 rows.")

CASES = {
    "the first start": (
        Status(),
        status(Phase.PREPARING, prepare(RUNNING), train(PENDING, 0)),
        [("Normal", "Started", "prepare runs as Job demo-prepare-1.")],
    ),
    "nothing new": (
        status(Phase.PREPARING, prepare(RUNNING), train(PENDING, 0)),
        status(Phase.PREPARING, prepare(RUNNING, message="waits"), train(PENDING, 0)),
        [],
    ),
    "a stage after the other": (
        status(Phase.PREPARING, prepare(RUNNING), train(PENDING, 0)),
        status(Phase.TRAINING, DONE, train(RUNNING)),
        [("Normal", "Prepared", "1900 rows. Next: train runs as Job demo-train-1.")],
    ),
    "a failed attempt": (
        status(Phase.TRAINING, DONE, train(RUNNING)),
        status(Phase.TRAINING, DONE, train(PENDING), attempts=[EVICTED]),
        [("Warning", "Evicted", "Evicted.")],
    ),
    "the attempt after": (
        status(Phase.TRAINING, DONE, train(PENDING), attempts=[EVICTED]),
        status(Phase.TRAINING, DONE, train(RUNNING, 2), attempts=[EVICTED]),
        [("Normal", "Retrying", "train is tried again as Job demo-train-2.")],
    ),
    "both at once": (
        status(Phase.TRAINING, DONE, train(RUNNING)),
        status(Phase.TRAINING, DONE, train(RUNNING, 2), attempts=[EVICTED]),
        [
            ("Warning", "Evicted", "Evicted."),
            ("Normal", "Retrying", "train is tried again as Job demo-train-2."),
        ],
    ),
    "the last failure": (
        status(Phase.TRAINING, DONE, train(RUNNING)),
        status(
            Phase.FAILED,
            DONE,
            train(FAILED),
            attempts=[EVICTED],
            conditions=not_ready("Evicted"),
            message="Evicted. It goes on so.",
        ),
        [("Warning", "Evicted", "Evicted. It goes on so.")],
    ),
    "the end": (
        status(Phase.TRAINING, DONE, train(RUNNING)),
        status(Phase.SUCCEEDED, DONE, train(SUCCEEDED, message="200 steps."), message="Published."),
        [("Normal", "Succeeded", "Published.")],
    ),
    "two stages seen at once": (
        status(Phase.PREPARING, prepare(RUNNING), train(PENDING, 0)),
        status(Phase.SUCCEEDED, DONE, train(SUCCEEDED), message="200 steps."),
        [("Normal", "Prepared", "1900 rows."), ("Normal", "Succeeded", "200 steps.")],
    ),
    "a suspension": (
        status(Phase.TRAINING, DONE, train(RUNNING)),
        status(Phase.SUSPENDED, DONE, train(PENDING), message="Suspended in train."),
        [("Normal", "Suspended", "Suspended in train.")],
    ),
    "going on": (
        status(Phase.SUSPENDED, DONE, train(PENDING)),
        status(Phase.TRAINING, DONE, train(RUNNING, 2)),
        [("Normal", "Resumed", "train goes on as Job demo-train-2.")],
    ),
    "going on when the pods have stopped": (
        status(Phase.SUSPENDED, DONE, train(PENDING)),
        status(Phase.TRAINING, DONE, train(PENDING), message="train waits."),
        [("Normal", "Resumed", "train waits.")],
    ),
    "an obstacle": (
        training("Training"),
        training("Unschedulable", message="train waits: no GPU."),
        [("Warning", "Unschedulable", "train waits: no GPU.")],
    ),
    "the same obstacle in other words": (
        training("Unschedulable", message="train waits: 0/1 nodes."),
        training("Unschedulable", message="train waits: 0/2 nodes."),
        [],
    ),
    "another obstacle": (
        training("Unschedulable"),
        training("ImagePull", message="train waits for its image."),
        [("Warning", "ImagePull", "train waits for its image.")],
    ),
    "an obstacle that is gone": (training("Unschedulable"), training("Training"), []),
    "a pod that starts": (training("Training"), training("PodStarting"), []),
    "a start that is refused": (
        Status(),
        status(Phase.PENDING, conditions=not_ready("Denied"), message="exceeded quota"),
        [("Warning", "Denied", "exceeded quota")],
    ),
    "a failed attempt, and then the run fails for another reason": (
        status(Phase.TRAINING, DONE, train(RUNNING)),
        status(Phase.FAILED, DONE, train(FAILED), attempts=[EVICTED], message="Refused."),
        [("Warning", "Evicted", "Evicted."), ("Warning", "Failed", "Refused.")],
    ),
    "an ended run": (
        status(Phase.FAILED, DONE, train(FAILED), message="No.", attempts=[EVICTED]),
        status(Phase.FAILED, DONE, train(FAILED), message="No.", attempts=[EVICTED]),
        [],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_change_is_told_once(case: str) -> None:
    old, new, expected = CASES[case]
    found = between(old, new)
    assert [(event.type, event.reason, event.message) for event in found] == expected
