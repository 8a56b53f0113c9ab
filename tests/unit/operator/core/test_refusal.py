"""What the API server refuses, or someone else has taken."""

from typing import Any

import pytest

from finetune_operator.core.model import CreateClaim, CreateJob, CreatePlan, Refusal
from finetune_operator.vocabulary import Phase, RefusalReason, StageState
from unit.operator.world import World


def running() -> World:
    world = World()
    world.settle()
    return world


def test_a_taken_name_fails_the_run_until_a_new_token_asks_again() -> None:
    said = "Job demo-train-1 exists: delete it, then change spec.rerunToken."
    world = running()
    world.succeed()
    world.refuse[CreateJob] = Refusal(RefusalReason.NAME_COLLISION, said, final=True)
    world.settle()
    assert world.condition("Failed") == ("True", "NameCollision", said)
    assert [(e.type, e.reason) for e in world.events][-1] == ("Warning", "NameCollision")
    world.refuse.clear()
    world.edit(rerunToken="again")
    world.settle()
    assert world.only_live().name == "demo-train-1"


def test_a_start_that_is_refused_for_good_fails_and_can_be_asked_for_again() -> None:
    world = World()
    world.refuse[CreatePlan] = Refusal(RefusalReason.INVALID, "No.", final=True)
    world.settle()
    assert (world.status.phase, world.status.plan_hash) == (Phase.FAILED, None)
    assert world.status.message == "No. Correct it and change spec.rerunToken together to go on."
    world.refuse.clear()
    world.settle()
    assert not world.jobs
    world.edit(rerunToken="again")
    world.settle()
    assert world.only_live().name == "demo-prepare-1"


@pytest.mark.parametrize("action", [CreatePlan, CreateClaim, CreateJob])
def test_a_start_that_is_refused_for_now_waits_and_says_so(action: Any) -> None:
    world = World()
    world.refuse[action] = Refusal(RefusalReason.DENIED, "exceeded quota", final=False)
    world.settle()
    assert (world.status.phase, world.status.message) == (Phase.PENDING, "exceeded quota")
    assert world.status.plan_hash is None
    world.refuse.clear()
    world.settle()
    assert world.only_live().name == "demo-prepare-1"


def test_a_stage_that_is_refused_for_now_waits_and_says_so() -> None:
    world = running()
    world.succeed()
    world.refuse[CreateJob] = Refusal(RefusalReason.DENIED, "exceeded quota", final=False)
    world.settle()
    assert (world.status.phase, world.status.message) == (Phase.TRAINING, "exceeded quota")
    assert world.stage("prepare").state == StageState.SUCCEEDED
    world.refuse.clear()
    world.settle()
    assert world.only_live().name == "demo-train-1"
