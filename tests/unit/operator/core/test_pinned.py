"""Which plan counts, whatever becomes of the spec."""

import pytest

from finetune_operator.core.model import JobState, Settings
from finetune_operator.vocabulary import Phase
from unit.operator.builders import plan
from unit.operator.world import World


def in_training() -> World:
    world = World()
    world.settle()
    world.succeed()
    world.settle()
    return world


def test_an_edit_after_the_start_changes_nothing_without_a_token() -> None:
    world = in_training()
    world.edit(training={"seed": 7})
    world.settle()
    assert world.status.plan_hash == plan().hash
    assert world.status.observed_generation == 2
    assert list(world.jobs) == ["demo-prepare-1", "demo-train-1"]


def test_a_token_that_was_taken_back_leaves_the_plan_as_it_was() -> None:
    world = in_training()
    world.edit(suspend=True)
    world.settle()
    world.gone()
    world.edit(rerunToken="2", resources={"nodes": 4})
    world.settle()
    world.edit(rerunToken=None, suspend=False)
    world.settle()
    assert world.only_live().name == "demo-train-2"
    assert world.status.plan_hash == plan().hash
    assert world.services == 0


def test_an_edit_while_the_first_status_was_never_written_starts_the_new_plan() -> None:
    world = World()
    world.look(crash_after=3)
    world.edit(training={"seed": 7})
    world.settle()
    assert world.jobs["demo-prepare-1"].state is JobState.DELETING
    world.gone()
    world.settle()
    assert world.only_live().name == "demo-prepare-2"
    assert world.status.plan_hash == plan(training={"seed": 7}).hash


@pytest.mark.parametrize("spec_gives", ["the same plan", "another plan"])
def test_a_lost_plan_is_pinned_again_if_the_spec_still_gives_it(spec_gives: str) -> None:
    world = in_training()
    world.plans.clear()
    if spec_gives == "another plan":
        world.edit(training={"seed": 7})
    world.settings = Settings("trainer:2")
    world.settle()
    if spec_gives == "the same plan":
        assert list(world.plans) == [plan().hash]
        assert world.status.phase == Phase.TRAINING
    else:
        assert world.status.phase == Phase.FAILED
        assert "is gone and the spec gives another plan now" in (world.status.message or "")
