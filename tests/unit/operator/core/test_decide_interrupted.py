"""The operator dies anywhere: after any action of any decision, before status was written."""

from collections.abc import Callable

import pytest

from finetune_operator.core.model import JobState
from finetune_operator.vocabulary import Phase
from unit.operator.world import World

Story = list[Callable[[World], None]]


def pause(world: World) -> None:
    world.seconds += 400


def replan(world: World) -> None:
    world.edit(rerunToken="again", training={"seed": 7})


def republish(world: World) -> None:
    world.edit(rerunToken="again", upload={"repository": "acme/other"})


def merge_otherwise(world: World) -> None:
    world.edit(rerunToken="again", merge={"precision": "Float32"})


def again(world: World) -> None:
    world.edit(rerunToken="again")


def suspend(world: World) -> None:
    world.edit(suspend=True)


def resume(world: World) -> None:
    world.edit(suspend=False)


def move(world: World) -> None:
    world.edit(scheduling={"nodeSelector": {"pool": "gpu"}})


def delete(world: World) -> None:
    del world.jobs[world.only_live().name]


def disrupted(world: World) -> None:
    world.fail(137, pod_reason="DeletionByTaintManager")


def wrong(world: World) -> None:
    world.fail(10, "The column is missing.")


STORIES: dict[str, tuple[Story, Phase]] = {
    "to success": ([World.succeed] * 4, Phase.SUCCEEDED),
    "with a retry": ([World.succeed, disrupted, pause, *[World.succeed] * 3], Phase.SUCCEEDED),
    "with a deleted Job": ([delete, pause, *[World.succeed] * 4], Phase.SUCCEEDED),
    "to a user error": ([World.succeed, wrong], Phase.FAILED),
    "to another plan": ([World.succeed, replan, World.gone, *[World.succeed] * 4], Phase.SUCCEEDED),
    "to other nodes": ([World.succeed, move, World.gone, *[World.succeed] * 3], Phase.SUCCEEDED),
    "over again": ([*[World.succeed] * 4, again, *[World.succeed] * 4], Phase.SUCCEEDED),
    "on after a failure": ([World.succeed, wrong, again, *[World.succeed] * 3], Phase.SUCCEEDED),
    "to another repository": (
        [*[World.succeed] * 3, wrong, republish, World.succeed],
        Phase.SUCCEEDED,
    ),
    "to another repository while it trains": (
        [World.succeed, republish, *[World.succeed] * 3],
        Phase.SUCCEEDED,
    ),
    "to another repository while it uploads": (
        [*[World.succeed] * 3, republish, World.gone, World.succeed],
        Phase.SUCCEEDED,
    ),
    "to another repository after training failed": (
        [World.succeed, wrong, republish, *[World.succeed] * 3],
        Phase.SUCCEEDED,
    ),
    "to another merge at the end": (
        [*[World.succeed] * 4, merge_otherwise, *[World.succeed] * 2],
        Phase.SUCCEEDED,
    ),
    "through a suspension": (
        [World.succeed, suspend, World.gone, resume, *[World.succeed] * 3],
        Phase.SUCCEEDED,
    ),
}  # fmt: skip


@pytest.mark.parametrize("story", STORIES)
@pytest.mark.parametrize("crash_after", range(4))
@pytest.mark.parametrize("crashes", [1, 3])
def test_wherever_the_operator_dies_the_run_comes_to_the_same_end(
    story: str, crash_after: int, crashes: int
) -> None:
    happenings, end = STORIES[story]
    undisturbed, disturbed = World(), World()
    for happen in [lambda world: None, *happenings]:
        happen(undisturbed)
        undisturbed.settle()
        happen(disturbed)
        for _ in range(crashes):
            disturbed.look(crash_after)
        disturbed.settle()
    assert undisturbed.status.phase == end
    assert disturbed.jobs == undisturbed.jobs
    assert disturbed.status == undisturbed.status
    assert disturbed.events == undisturbed.events


@pytest.mark.parametrize("ends", [JobState.SUCCEEDED, JobState.FAILED])
def test_what_happened_while_the_operator_was_away_is_caught_up(ends: JobState) -> None:
    world = World()
    world.settle()
    world.succeed()
    world.look(crash_after=1)
    assert world.only_live().name == "demo-train-1"
    if ends is JobState.SUCCEEDED:
        world.succeed()
    else:
        world.fail(10, "No.")
    world.settle()
    live = [job.name for job in world.live()]
    assert live == (["demo-merge-1"] if ends is JobState.SUCCEEDED else [])
    assert world.stage("prepare").state == "Succeeded"
