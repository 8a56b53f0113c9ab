"""Lives of runs, from first touch to end, played on a world in memory."""

import dataclasses
from typing import Any

import pytest

from finetune_operator.core.decide import decide
from finetune_operator.core.model import (
    CheckClaim,
    CreateClaim,
    CreateJob,
    CreatePlan,
    CreateService,
    DeleteJob,
    JobState,
    Observed,
    Settings,
    Waiting,
)
from finetune_operator.core.moments import to_text
from finetune_operator.core.naming import ATTEMPT_LIMIT
from finetune_operator.core.remedy import CORRECT, USED_UP
from finetune_operator.core.waiting import STARTING, STOPPING
from finetune_operator.vocabulary import Phase, Stage, StageState
from unit.operator.builders import plan, resource
from unit.operator.world import World

STAGES = ("prepare", "train", "merge", "upload")


def running(**changes: Any) -> World:
    world = World(**changes)
    world.settle()
    return world


def in_training(**changes: Any) -> World:
    world = running(**changes)
    world.succeed("Prepared.")
    world.settle()
    assert world.only_live().stage == "train"
    return world


def finished(world: World) -> World:
    while world.live():
        world.succeed()
        world.settle()
    return world


def names(world: World) -> list[str]:
    return sorted(world.jobs)


def test_the_first_look_pins_the_plan_and_starts_prepare_at_once() -> None:
    world = World()
    decision = world.look()
    assert [type(action) for action in decision.actions] == [CreateClaim, CreatePlan, CreateJob]
    assert world.status.phase == Phase.PREPARING
    assert world.status.plan_hash == plan().hash
    assert world.status.start_time is not None
    assert world.status.observed_generation == 1
    assert world.writes == 1


@pytest.mark.parametrize(("nodes", "checks"), [(1, []), (2, [CheckClaim("shared", 2)])])
def test_a_claim_of_the_users_is_not_made_but_checked_where_nodes_share_it(
    nodes: int, checks: list[Any]
) -> None:
    world = World(storage={"claimName": "shared"}, resources={"nodes": nodes})
    actions = world.look().actions
    assert list(actions[:-2]) == checks
    assert [type(action) for action in actions[-2:]] == [CreatePlan, CreateJob]


def test_a_second_look_changes_nothing() -> None:
    world = World()
    world.look()
    assert world.look().actions == ()
    assert world.writes == 1


def test_the_end_of_a_stage_starts_the_next_in_the_same_decision() -> None:
    world = running()
    world.succeed("1900 of 2000 rows kept.")
    decision = world.look()
    assert [action.stage for action in decision.actions if isinstance(action, CreateJob)] == [
        Stage.TRAIN
    ]
    assert world.stage("prepare").state == StageState.SUCCEEDED
    assert world.stage("prepare").message == "1900 of 2000 rows kept."
    assert world.status.phase == Phase.TRAINING


def test_a_run_ends_with_its_last_stage_and_one_write_a_change() -> None:
    world = running()
    for _ in range(3):
        world.succeed()
        world.settle()
    world.succeed("Uploaded.", {"repository": "acme/tuned", "commit": "abc123", "url": "http://x"})
    world.settle()
    assert names(world) == sorted(f"demo-{stage}-1" for stage in STAGES)
    assert world.status.phase == Phase.SUCCEEDED
    assert world.status.message == "Published acme/tuned at commit abc123."
    assert world.status.completion_time is not None
    assert world.writes == 5
    assert [(event.reason, event.message) for event in world.events] == [
        ("Started", "prepare runs as Job demo-prepare-1."),
        ("Prepared", "prepare is done. Next: train runs as Job demo-train-1."),
        ("Trained", "train is done. Next: merge runs as Job demo-merge-1."),
        ("Merged", "merge is done. Next: upload runs as Job demo-upload-1."),
        ("Succeeded", "Published acme/tuned at commit abc123."),
    ]


def test_only_the_stages_asked_for_run() -> None:
    world = finished(running(upload=None))
    assert names(world) == ["demo-prepare-1", "demo-train-1"]
    assert world.status.phase == Phase.SUCCEEDED


def test_several_nodes_get_a_service_before_every_training_attempt() -> None:
    world = running(resources={"nodes": 2})
    assert world.services == 0
    world.succeed()
    decision = world.look()
    assert [type(action) for action in decision.actions] == [CreateService, CreateJob]


def test_a_user_error_fails_the_run_word_for_word_and_is_never_retried() -> None:
    said = 'dataset.format.questionAnswer.question names column "problem", which is not there.'
    world = running()
    world.fail(10, said)
    world.settle()
    assert world.status.phase == Phase.FAILED
    assert world.stage("prepare").message == world.status.attempts[0].message == said
    told = said + CORRECT
    assert world.status.message == told
    assert world.condition("Failed") == ("True", "UserError", told)
    assert world.condition("Stalled") == ("True", "UserError", told)
    assert world.condition("Reconciling")[0] == "False"
    assert [(e.type, e.reason, e.message) for e in world.events[1:]] == [
        ("Warning", "UserError", told)
    ]
    world.seconds = 10_000
    world.settle()
    assert names(world) == ["demo-prepare-1"]


def test_a_crash_is_tried_again_after_a_pause_and_then_given_up() -> None:
    world = in_training()
    for attempt, pause in ((1, 10), (2, 40)):
        world.fail(1)
        world.settle()
        assert world.stage("train").state == StageState.PENDING
        assert world.requeue_after == pause
        assert not world.live()
        world.seconds += pause
        world.settle()
        assert world.only_live().name == f"demo-train-{attempt + 1}"
    world.fail(1)
    world.settle()
    assert world.status.phase == Phase.FAILED
    assert [attempt.reason for attempt in world.status.attempts] == ["Crashed"] * 3
    assert str(world.status.message).endswith(USED_UP)
    warnings = [event.reason for event in world.events if event.type == "Warning"]
    assert warnings == ["Crashed"] * 3
    assert [event.reason for event in world.events].count("Retrying") == 2


def test_a_retry_whose_time_has_come_starts_with_the_record_of_the_failure() -> None:
    world = in_training()
    world.fail(1)
    world.seconds += 3600
    world.look()
    assert world.only_live().name == "demo-train-2"
    assert world.status.attempts[0].job == "demo-train-1"


def test_a_preempted_attempt_costs_nothing() -> None:
    world = in_training()
    for _ in range(12):
        world.fail(13, "Saved at step 84.")
        world.settle()
        world.seconds += 10
        world.settle()
    assert world.only_live().name == "demo-train-13"
    assert world.stage("train").failures == 0
    assert len(world.status.attempts) == 10


def test_a_job_deleted_by_hand_is_a_failed_attempt_that_is_made_up_for() -> None:
    world = in_training()
    del world.jobs["demo-train-1"]
    world.settle()
    assert world.status.attempts[0].reason == "JobDeleted"
    world.seconds += 10
    world.settle()
    assert world.only_live().name == "demo-train-2"


def test_while_a_deleted_jobs_pods_stop_nothing_else_starts() -> None:
    world = in_training()
    world.become("demo-train-1", JobState.DELETING)
    world.settle()
    assert world.status.message == "train is being stopped: Job demo-train-1 was deleted."
    assert names(world) == ["demo-prepare-1", "demo-train-1"]


def test_a_wait_is_told_and_ends() -> None:
    world = in_training()
    world.waiting["demo-train-1"] = Waiting("Unschedulable", "0/1 nodes: no nvidia.com/gpu.")
    world.settle()
    assert world.status.message == "train waits: 0/1 nodes: no nvidia.com/gpu."
    assert world.condition("Ready")[1] == "Unschedulable"
    assert world.condition("Reconciling")[0] == "True"
    world.waiting.clear()
    world.become("demo-train-1", JobState.RUNNING)
    world.settle()
    assert world.status.message == "train runs as Job demo-train-1."
    assert world.stage("train").message is None


def test_what_was_told_stays_until_the_pods_are_looked_into_again() -> None:
    world = in_training()
    world.waiting["demo-train-1"] = Waiting("Unschedulable", "0/1 nodes: no nvidia.com/gpu.")
    world.settle()
    before = world.status
    world.waiting.clear()
    world.settle()
    assert world.status == before


def test_a_pod_that_starts_does_not_run_yet() -> None:
    world = in_training()
    world.waiting["demo-train-1"] = Waiting(STARTING, "")
    world.settle()
    assert world.status.message is not None
    assert world.status.message.startswith("train waits for its pod to start")


@pytest.mark.parametrize("state", [JobState.STOPPING, JobState.DELETING])
def test_a_pod_that_is_lost_with_its_node_is_told_and_nothing_else_starts(state: JobState) -> None:
    world = in_training()
    world.become("demo-train-1", state)
    world.settle()
    assert str(world.status.message).startswith("train is being stopped: ")
    world.waiting["demo-train-1"] = Waiting(STOPPING, "pod x on node n", to_text(world.now))
    world.settle()
    assert str(world.status.message).startswith("train is being stopped: ")
    world.seconds += 61
    world.settle()
    assert world.condition("Ready")[1] == "PodStuck"
    assert "pod x on node n does not stop" in str(world.status.message)
    assert names(world) == ["demo-prepare-1", "demo-train-1"]


def test_a_resumed_run_tells_of_the_lost_pod_that_it_waits_for() -> None:
    world = in_training()
    world.edit(suspend=True)
    world.settle()
    world.edit(suspend=False)
    world.waiting["demo-train-1"] = Waiting(STOPPING, "pod x on node n", to_text(world.now))
    world.seconds += 61
    world.settle()
    assert "pod x on node n does not stop" in str(world.status.message)


def test_an_image_that_cannot_be_pulled_is_given_up_in_the_end() -> None:
    world = running()
    world.waiting["demo-prepare-1"] = Waiting(
        "ImagePullBackOff", 'Back-off pulling "nope:1"', since=to_text(world.now)
    )
    world.settle()
    assert world.live()
    world.seconds = 301
    world.settle()
    assert world.jobs["demo-prepare-1"].state is JobState.DELETING
    assert world.status.attempts[0].reason == "ImagePull"
    world.gone()
    world.seconds += 10
    world.settle()
    assert world.only_live().name == "demo-prepare-2"


def test_a_deleted_resource_starts_nothing() -> None:
    gone = resource(deleted=True)
    assert decide(Observed(gone), Settings("trainer:1"), World().now).actions == ()


def test_a_deleted_resource_that_somebody_keeps_does_not_keep_its_gpus() -> None:
    world = in_training()
    about = world.resource().metadata.model_copy(
        update={"deletion_timestamp": "2026-01-31T12:00:00Z", "finalizers": ("acme/audit",)}
    )
    gone = world.resource().model_copy(update={"metadata": about})
    facts = dataclasses.replace(world.observed(), resource=gone)
    decision = decide(facts, world.settings, world.now)
    job = world.only_live()
    assert decision.actions == (DeleteJob(job.name, job.uid),)
    assert decision.status == world.status
    orphaning = about.model_copy(update={"finalizers": ("orphan",)})
    facts = dataclasses.replace(facts, resource=gone.model_copy(update={"metadata": orphaning}))
    assert decide(facts, world.settings, world.now).actions == ()


def test_after_the_last_attempt_a_rerun_is_refused_in_words() -> None:
    world = running()
    world.fail(10, "No column.")
    world.settle()
    first = world.status.stages[0].model_copy(update={"attempt": ATTEMPT_LIMIT})
    rest = world.status.stages[1:]
    world.status = world.status.model_copy(update={"stages": [first, *rest]})
    world.edit(rerunToken="again")
    world.settle()
    assert world.status.phase == Phase.FAILED
    assert world.live() == []
    assert "prepare has had 9999 attempts" in (world.status.message or "")
    assert world.condition("Failed")[:2] == ("True", "AttemptsUsedUp")


def test_a_finished_run_takes_note_of_a_new_generation_only() -> None:
    world = finished(running())
    before = world.status
    world.edit(scheduling={"priorityClassName": "low"})
    world.settle()
    assert world.status.observed_generation == 2
    assert world.status.message == before.message
    assert world.status.completion_time == before.completion_time
