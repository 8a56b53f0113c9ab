"""How the end of an attempt gets into status."""

from finetune_operator.core.model import JobState, Report
from finetune_operator.vocabulary import Phase, StageState
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
        "step": None,
        "finished_at": "2026-01-31T12:00:05Z",
    }
    assert world.stage("prepare").message == attempt.message


def test_an_exit_code_that_is_none_is_left_out() -> None:
    world = prepared()
    world.fail(-1)
    world.settle()
    assert world.status.attempts[0].exit_code is None


def test_drains_cost_no_budget_however_many() -> None:
    world = prepared()
    told = "Pod a/b has condition DisruptionTarget matching FailJob rule at index 0"
    for _ in range(5):
        job = world.only_live().name
        world.fail()
        world.become(job, JobState.FAILED, message=told)
        world.seconds += 60
        world.settle()
    assert world.stage("prepare").failures == 0
    assert {attempt.reason for attempt in world.status.attempts} == {"Disrupted"}


def test_a_crash_costs_its_budget_only_while_nothing_is_gained() -> None:
    world = prepared()
    world.succeed()
    world.settle()
    for step in (10, 20, 30, 40, 40, 40):
        world.seconds += 400
        world.settle()
        job = world.only_live().name
        world.become(job, JobState.RUNNING)
        metrics = {"current_step": str(step), "total_steps": "90"}
        world.report = Report(job, world.now, metrics=metrics)
        world.settle()
        assert world.status.phase == Phase.TRAINING
        world.fail(1)
        world.settle()
    assert [attempt.step for attempt in world.status.attempts] == [10, 20, 30, 40, 40, 40]
    assert world.status.phase == Phase.FAILED


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


def test_the_last_report_is_kept_though_training_ended_before_it_was_written() -> None:
    world = prepared()
    world.succeed()
    world.settle()
    metrics = {"current_step": "6", "total_steps": "6", "grad_norm": "0.7"}
    world.report = Report(world.only_live().name, world.now, 100, 0, metrics)
    world.succeed(result={"steps": 6, "totalSteps": 6, "loss": 1.5})
    world.settle()
    assert world.status.metrics == {"loss": "1.5", "gradNorm": "0.7"}
