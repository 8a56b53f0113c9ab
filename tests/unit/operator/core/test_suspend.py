from typing import Any

import pytest

from finetune_operator.core.model import JobState, Report
from finetune_operator.core.remedy import CORRECT
from finetune_operator.vocabulary import Phase
from unit.operator.world import World


def training(**changes: Any) -> World:
    world = World(**changes)
    world.settle()
    world.succeed()
    world.settle()
    return world


def test_before_the_start_nothing_is_made() -> None:
    world = World(suspend=True)
    world.settle()
    assert (world.jobs, world.plans, world.claims) == ({}, {}, 0)
    assert world.status.phase == Phase.SUSPENDED
    assert world.status.plan_hash is None
    assert world.status.observed_generation == 1
    assert world.status.message == (
        "Suspended before its start: set spec.suspend to false to go on."
    )


def test_a_run_made_suspended_starts_when_it_may() -> None:
    world = World(suspend=True)
    world.settle()
    world.edit(suspend=False)
    world.settle()
    assert world.only_live().name == "demo-prepare-1"
    assert [event.reason for event in world.events] == ["Suspended", "Resumed"]


def test_what_runs_is_told_to_stop_once() -> None:
    world = training()
    world.edit(suspend=True)
    world.settle()
    assert world.jobs["demo-train-1"].state is JobState.DELETING
    assert world.status.phase == Phase.SUSPENDED
    assert world.condition("Suspended")[0] == "True"
    assert world.condition("Reconciling")[0] == "False"
    assert world.status.message == "Suspended in train: set spec.suspend to false to go on."


def test_going_on_waits_until_the_old_pods_have_stopped() -> None:
    world = training()
    world.edit(suspend=True)
    world.settle()
    world.edit(suspend=False)
    world.settle()
    assert world.status.message == "train waits until Job demo-train-1 has stopped."
    world.gone()
    world.settle()
    assert world.only_live().name == "demo-train-2"
    assert world.status.phase == Phase.TRAINING
    assert world.stage("train").failures == 0
    assert world.status.attempts == []


@pytest.mark.parametrize("gone", [False, True])
def test_what_is_saved_last_is_told_though_its_job_may_be_gone_by_then(gone: bool) -> None:
    world = training()
    world.edit(suspend=True)
    world.settle()
    if gone:
        world.gone()
    metrics = {"current_step": "8", "total_steps": "12", "checkpoint_step": "8"}
    world.report = Report("demo-train-1", world.now, metrics=metrics)
    world.settle()
    assert world.status.phase == Phase.SUSPENDED
    assert world.status.progress is not None
    assert (world.status.progress.step, world.status.progress.checkpoint_step) == (8, 8)


def test_however_the_stopped_pods_end_the_run_has_not_failed() -> None:
    world = training()
    world.edit(suspend=True)
    world.fail(143)
    world.settle()
    assert world.status.phase == Phase.SUSPENDED
    assert world.status.attempts == []


def test_a_job_that_is_gone_at_once_is_not_missed() -> None:
    world = training()
    world.edit(suspend=True)
    world.look(crash_after=1)
    world.gone()
    world.settle()
    assert world.status.phase == Phase.SUSPENDED
    assert world.status.attempts == []


def test_a_stop_that_status_does_not_tell_of_costs_nothing() -> None:
    world = training()
    world.edit(suspend=True)
    world.look(crash_after=1)
    world.edit(suspend=False)
    world.settle()
    assert str(world.status.message).startswith("train is being stopped")
    world.gone()
    world.settle()
    assert world.only_live().name == "demo-train-2"
    assert world.stage("train").failures == 0
    assert world.status.attempts == []


def test_nor_does_the_end_of_its_pods() -> None:
    world = training()
    world.edit(suspend=True)
    world.look(crash_after=1)
    world.fail(143)
    world.edit(suspend=False)
    world.settle()
    assert world.stage("train").failures == 0


def test_a_stage_that_ended_just_then_is_not_repeated() -> None:
    world = training()
    world.edit(suspend=True)
    world.succeed()
    world.settle()
    assert world.stage("train").state == "Succeeded"
    assert world.status.message == "Suspended before merge: set spec.suspend to false to go on."
    world.edit(suspend=False)
    world.settle()
    assert world.only_live().name == "demo-merge-1"


def test_a_mistake_of_the_user_is_told_even_then() -> None:
    world = training()
    world.edit(suspend=True)
    world.fail(10, "Wrong.")
    world.settle()
    assert (world.status.phase, world.status.message) == (
        Phase.FAILED,
        f"Wrong.{CORRECT}",
    )


def test_a_run_that_has_ended_stays_ended() -> None:
    world = training(upload=None)
    world.succeed()
    world.settle()
    world.edit(suspend=True)
    world.settle()
    assert world.status.phase == Phase.SUCCEEDED


def test_a_suspended_job_is_queued_not_failed() -> None:
    world = training()
    world.become("demo-train-1", JobState.SUSPENDED)
    world.settle()
    assert world.status.message == "train is queued: Job demo-train-1 is suspended."
