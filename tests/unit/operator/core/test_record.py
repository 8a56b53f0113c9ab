"""How the end of an attempt gets into status."""

from finetune_operator.vocabulary import StageState
from unit.operator.world import World


def prepared() -> World:
    world = World()
    world.settle()
    return world


def test_a_failed_attempt_is_kept_with_all_that_is_known() -> None:
    world = prepared()
    world.seconds = 5
    world.fail(137, container_reason="OOMKilled", node="node-1")
    world.settle()
    (attempt,) = world.status.attempts
    assert attempt.model_dump(mode="json", exclude={"message"}) == {
        "stage": "prepare",
        "attempt": 1,
        "job": "demo-prepare-1",
        "reason": "OutOfMemory",
        "exit_code": 137,
        "node": "node-1",
        "finished_at": "2026-01-31T12:00:05Z",
    }
    assert world.stage("prepare").message == attempt.message


def test_an_exit_code_that_is_none_is_left_out() -> None:
    world = prepared()
    world.fail(-1)
    world.settle()
    assert world.status.attempts[0].exit_code is None


def test_a_stage_keeps_its_first_start_over_all_attempts() -> None:
    world = prepared()
    world.fail(1)
    world.seconds = 60
    world.settle()
    world.seconds = 90
    world.succeed()
    world.settle()
    entry = world.stage("prepare")
    assert entry.attempt == 2
    assert entry.start_time == "2026-01-31T12:00:00Z"
    assert entry.completion_time == "2026-01-31T12:01:30Z"


def test_a_termination_message_that_is_no_result_is_no_obstacle() -> None:
    world = prepared()
    world.succeed("Done.")
    name = "demo-prepare-1"
    world.terminations[name].document["result"] = ["not", "an", "object"]  # type: ignore[index]
    world.settle()
    assert world.stage("prepare").state == StageState.SUCCEEDED
    assert world.stage("prepare").message == "Done."


def test_jobs_of_another_plan_are_not_this_ones_history() -> None:
    world = prepared()
    world.succeed()
    world.become("demo-prepare-1", world.jobs["demo-prepare-1"].state, plan_hash="another")
    world.settle()
    assert world.status.attempts[0].reason == "JobDeleted"
