"""Stories that nobody thought of: whatever happens in whatever order, a run can still be brought to
its end, and the world never sees two live Jobs, a reused name or a status that its schema refuses.
"""

import random
from collections.abc import Callable

import pytest

from finetune_operator.core.model import (
    CreateClaim,
    CreateJob,
    CreatePlan,
    JobState,
    Refusal,
    Waiting,
)
from finetune_operator.core.moments import to_text
from finetune_operator.core.waiting import STOPPING
from finetune_operator.vocabulary import Phase, RefusalReason
from unit.operator.world import World

STORIES = 200
HAPPENINGS = 40

Chance = random.Random


def end_well(world: World, chance: Chance) -> None:
    if stoppable(world):
        world.succeed()


def end_badly(world: World, chance: Chance) -> None:
    if stoppable(world):
        world.fail(chance.choice([None, 1, 10, 11, 12, 13, 14, 137, 143]))


def be_deleted(world: World, chance: Chance) -> None:
    if world.jobs:
        del world.jobs[chance.choice(sorted(world.jobs))]


def be_asked_to_go(world: World, chance: Chance) -> None:
    for job in world.live():
        world.become(job.name, JobState.DELETING)


def lose_a_pod(world: World, chance: Chance) -> None:
    for job in world.live():
        if job.state is not JobState.DELETING:
            world.become(job.name, JobState.STOPPING)


def go(world: World, chance: Chance) -> None:
    world.gone()


def wait(world: World, chance: Chance) -> None:
    for job in world.live():
        reason = chance.choice(["Unschedulable", "ErrImagePull", "InvalidImageName", STOPPING])
        world.waiting[job.name] = Waiting(reason, "Said.", to_text(world.now))


def run(world: World, chance: Chance) -> None:
    world.waiting.clear()


def let_time_pass(world: World, chance: Chance) -> None:
    world.seconds += chance.choice([1, 15, 400])


def suspend(world: World, chance: Chance) -> None:
    world.edit(suspend=chance.choice([True, False, None]))


def rerun(world: World, chance: Chance) -> None:
    world.edit(rerunToken=chance.choice(["a", "b", None]))


def replan(world: World, chance: Chance) -> None:
    world.edit(rerunToken=chance.choice(["a", "b"]), training={"seed": chance.randrange(3)})


def move(world: World, chance: Chance) -> None:
    world.edit(scheduling={"priorityClassName": chance.choice(["low", "high"])})


def begin(world: World, chance: Chance) -> None:
    for job in world.live():
        if job.state is JobState.WAITING:
            world.become(job.name, JobState.RUNNING)


def change_stages(world: World, chance: Chance) -> None:
    world.edit(
        rerunToken=chance.choice(["c", "d"]), upload=chance.choice([None, {"branch": "main"}])
    )


def change_what_is_published(world: World, chance: Chance) -> None:
    world.edit(
        rerunToken=chance.choice(["e", "f", "g"]),
        upload={"repository": chance.choice(["acme/one", "acme/two"])},
        merge=chance.choice([None, {"precision": "Float32"}]),
    )


def lose_the_plan(world: World, chance: Chance) -> None:
    world.plans.clear()


def lose_the_claim(world: World, chance: Chance) -> None:
    world.claim_lost = True


def refuse(world: World, chance: Chance) -> None:
    kind = chance.choice([CreatePlan, CreateClaim, CreateJob])
    world.refuse = {kind: Refusal(RefusalReason.DENIED, "No.", final=chance.random() < 0.3)}


def allow(world: World, chance: Chance) -> None:
    world.refuse.clear()


def die(world: World, chance: Chance) -> None:
    world.look(crash_after=chance.randrange(4))


def stoppable(world: World) -> bool:
    return len(world.live()) == 1


EVERYTHING: list[Callable[[World, Chance], None]] = [
    *[end_well] * 4, *[end_badly] * 3, be_deleted, be_asked_to_go, lose_a_pod, *[go] * 3, wait, run,
    *[let_time_pass] * 3, suspend, rerun, replan, move, begin, change_stages,
    *[change_what_is_published] * 2, lose_the_plan, lose_the_claim, refuse, allow, *[die] * 4,
]  # fmt: skip


@pytest.mark.parametrize("seed", range(STORIES))
def test_any_story_can_be_brought_to_a_good_end(seed: int) -> None:
    chance, world = Chance(seed), World()
    for _ in range(HAPPENINGS):
        chance.choice(EVERYTHING)(world, chance)
        if chance.random() < 0.7:
            world.settle()
    world.refuse.clear()
    world.waiting.clear()
    world.edit(suspend=None, upload={"branch": "main"})
    for number in range(12):
        if world.status.phase == Phase.FAILED or number == 0:
            world.edit(rerunToken=f"at last {number}")
        world.settle()
        world.gone()
        world.seconds += 400
        world.settle()
        if stoppable(world):
            world.succeed()
    assert world.status.phase == Phase.SUCCEEDED
    assert not world.live()
