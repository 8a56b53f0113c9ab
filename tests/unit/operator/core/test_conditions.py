import pytest

from finetune_operator.api.status import Condition, StageStatus, Status
from finetune_operator.core.conditions import Situation, conditions
from finetune_operator.core.moments import to_text
from finetune_operator.vocabulary import Phase, Stage, StageState
from unit.operator.builders import NOW, later

STAGES = [
    StageStatus(name=Stage.PREPARE, state=StageState.SUCCEEDED, message="Prepared."),
    StageStatus(name=Stage.TRAIN, state=StageState.RUNNING),
]


def made(phase: Phase, status: Status | None = None, seconds: float = 0) -> dict[str, Condition]:
    status = status or Status(stages=STAGES)
    situation = Situation(phase, "Why", "In words.")
    return {item.type: item for item in conditions(status, situation, 3, later(seconds))}


@pytest.mark.parametrize(
    ("phase", "true"),
    [
        (Phase.PENDING, {"Reconciling"}),
        (Phase.PREPARING, {"Reconciling"}),
        (Phase.TRAINING, {"Reconciling"}),
        (Phase.MERGING, {"Reconciling"}),
        (Phase.UPLOADING, {"Reconciling"}),
        (Phase.SUSPENDED, {"Suspended"}),
        (Phase.SUCCEEDED, {"Ready", "Succeeded"}),
        (Phase.FAILED, {"Failed", "Stalled"}),
    ],
)
def test_each_phase_has_the_conditions_that_kstatus_reads(phase: Phase, true: set[str]) -> None:
    of_run = {"Ready", "Succeeded", "Failed", "Suspended", "Reconciling", "Stalled"}
    found = made(phase)
    assert of_run <= set(found)
    assert {kind for kind in of_run if found[kind].status == "True"} == true


def test_every_stage_of_the_run_has_its_condition() -> None:
    found = made(Phase.TRAINING)
    assert (found["Prepared"].status, found["Prepared"].message) == ("True", "Prepared.")
    assert (found["Trained"].status, found["Trained"].reason) == ("False", "Running")
    assert "Merged" not in found


def test_a_failed_stage_has_the_runs_reason() -> None:
    status = Status(stages=[StageStatus(name=Stage.PREPARE, state=StageState.FAILED)])
    assert made(Phase.FAILED, status)["Prepared"].reason == "Why"


def test_ready_always_says_how_things_stand_and_others_when_they_are_in_force() -> None:
    found = made(Phase.TRAINING)
    assert found["Ready"].message == found["Reconciling"].message == "In words."
    assert found["Failed"].message == ""


def test_a_transition_has_a_time_and_staying_keeps_it() -> None:
    before = made(Phase.TRAINING)
    status = Status(stages=STAGES, conditions=list(before.values()))
    same = made(Phase.TRAINING, status, seconds=60)
    assert {item.last_transition_time for item in same.values()} == {to_text(NOW)}
    after = made(Phase.SUCCEEDED, status, seconds=60)
    assert after["Ready"].last_transition_time == to_text(later(60))
    assert after["Failed"].last_transition_time == to_text(NOW)


def test_every_condition_says_for_which_generation_it_holds() -> None:
    assert {item.observed_generation for item in made(Phase.TRAINING).values()} == {3}
