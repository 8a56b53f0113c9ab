from typing import Any

import pytest

from finetune_operator.api.status import Attempt, StageStatus
from finetune_operator.core import attempts
from finetune_operator.core.moments import to_text
from finetune_operator.core.naming import ATTEMPT_LIMIT
from finetune_operator.vocabulary import FailureReason, Stage, StageState
from unit.operator.builders import NOW, later


def entry(**fields: Any) -> StageStatus:
    return StageStatus(name=Stage.TRAIN, state=StageState.PENDING, **{"attempt": 1, **fields})


def attempt(reason: FailureReason) -> Attempt:
    return Attempt(stage=Stage.TRAIN, attempt=1, job="j", reason=reason, finished_at=to_text(NOW))


COUNTED = [
    FailureReason.RETRYABLE,
    FailureReason.EVICTED,
    FailureReason.POD_FAILED,
    FailureReason.IMAGE_PULL,
    FailureReason.JOB_DELETED,
    FailureReason.CRASHED,
]


@pytest.mark.parametrize("reason", [FailureReason.USER_ERROR, FailureReason.NON_FINITE_LOSS])
def test_what_fails_again_is_never_tried_again(reason: FailureReason) -> None:
    assert not attempts.may_retry(entry(), reason)


@pytest.mark.parametrize("reason", COUNTED)
def test_infrastructure_is_given_three_attempts(reason: FailureReason) -> None:
    assert attempts.may_retry(entry(failures=2), reason)
    assert not attempts.may_retry(entry(failures=3), reason)


def test_memory_is_given_two_attempts() -> None:
    assert attempts.may_retry(entry(out_of_memory=1), FailureReason.OUT_OF_MEMORY)
    assert not attempts.may_retry(entry(out_of_memory=2), FailureReason.OUT_OF_MEMORY)


@pytest.mark.parametrize("reason", [FailureReason.PREEMPTED, FailureReason.DISRUPTED])
def test_what_the_cluster_stops_is_tried_again_until_names_run_out(reason: FailureReason) -> None:
    assert attempts.counted(entry(), reason, advanced=False) == {}
    assert attempts.may_retry(entry(attempt=ATTEMPT_LIMIT - 1, failures=2), reason)
    assert not attempts.may_retry(entry(attempt=ATTEMPT_LIMIT), reason)


@pytest.mark.parametrize("reason", COUNTED)
def test_failures_are_counted(reason: FailureReason) -> None:
    assert attempts.counted(entry(failures=1), reason, advanced=False) == {"failures": 2}


@pytest.mark.parametrize("reason", COUNTED)
def test_progress_renews_the_budget(reason: FailureReason) -> None:
    assert attempts.counted(entry(failures=2), reason, advanced=True) == {"failures": 1}


@pytest.mark.parametrize(
    ("before", "step", "expected"),
    [
        ([], 40, False),
        ([None], 40, True),
        ([20], 40, True),
        ([20], 20, False),
        ([20], 10, False),
        ([20], None, False),
        ([90, 20], 40, True),
    ],
)
def test_progress_is_a_step_that_the_attempt_before_did_not_reach(
    before: list[int | None], step: int | None, expected: bool
) -> None:
    former = [
        attempt(FailureReason.CRASHED).model_copy(update={"step": reached}) for reached in before
    ]
    latest = attempt(FailureReason.CRASHED).model_copy(update={"step": step})
    assert attempts.advanced(latest, former) is expected


def test_memory_has_a_budget_of_its_own() -> None:
    changed = attempts.counted(entry(failures=2), FailureReason.OUT_OF_MEMORY, advanced=True)
    assert changed == {"out_of_memory": 1}


@pytest.mark.parametrize(
    ("counters", "reason", "passed", "expected"),
    [
        ({"failures": 1}, FailureReason.CRASHED, 0, 10),
        ({"failures": 1}, FailureReason.CRASHED, 4, 6),
        ({"failures": 1}, FailureReason.CRASHED, 11, 0),
        ({"failures": 2}, FailureReason.CRASHED, 0, 40),
        ({"failures": 2, "out_of_memory": 1}, FailureReason.OUT_OF_MEMORY, 0, 160),
        ({"failures": 3, "out_of_memory": 1}, FailureReason.CRASHED, 0, 300),
        ({"failures": 2}, FailureReason.PREEMPTED, 0, 10),
        # A rerun has reset the counters: a person waits.
        ({}, FailureReason.CRASHED, 0, 0),
    ],
)
def test_pauses_grow_with_failures(
    counters: dict[str, int], reason: FailureReason, passed: float, expected: float
) -> None:
    due = attempts.seconds_until_due(entry(**counters), attempt(reason), later(passed))
    assert due == expected


def test_without_a_failure_there_is_no_pause() -> None:
    assert attempts.seconds_until_due(entry(), None, NOW) == 0
