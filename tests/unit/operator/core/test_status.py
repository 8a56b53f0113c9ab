"""The whole status: bounded, and accepted by its own schema, whatever a run has been through."""

import json
from typing import Any

import pytest

from finetune_operator.api.status import Status
from finetune_operator.core.status import seen
from unit.operator.world import World

# Quotes and backslashes double in JSON: the worst that a sentence can hold.
WORST = '"\\' * 4096
FULL: dict[str, Any] = {"method": {"lora": None, "full": {}}}


def long_lived() -> World:
    world = World()
    world.settle()
    world.succeed(WORST, {"modelCommit": WORST, "datasetCommit": WORST})
    world.settle()
    for _ in range(12):
        world.fail(13, WORST, node=WORST)
        world.seconds += 10
        world.settle()
    world.fail(10, WORST)
    world.settle()
    return world


def test_the_worst_status_is_valid_and_below_64_kib() -> None:
    status = long_lived().status
    document = status.model_dump(mode="json", by_alias=True, exclude_none=True)
    assert len(json.dumps(document)) < 64 * 1024
    Status.model_validate(document)
    assert len(status.attempts) == 10


def test_status_condition_and_event_say_the_same() -> None:
    world = long_lived()
    assert world.status.message == world.condition("Failed")[2] == world.events[-1].message


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {"trainerImage": "trainer:1", "learningRate": "2e-4"}),
        (FULL, {"trainerImage": "trainer:1", "learningRate": "2e-5"}),
        ({"trainer": {"image": "mine:1"}}, {"trainerImage": "mine:1", "learningRate": "2e-4"}),
    ],
)
def test_what_was_derived_is_shown_from_the_start(
    changes: dict[str, Any], expected: dict[str, str]
) -> None:
    world = World(**changes)
    world.settle()
    assert world.status.resolved is not None
    assert world.status.resolved.model_dump(by_alias=True, exclude_none=True) == expected


def test_the_workspaces_claim_is_shown_from_the_start() -> None:
    world = World(storage={"claimName": "shared"})
    world.settle()
    assert world.status.artifacts is not None
    assert world.status.artifacts.claim_name == "shared"


def test_another_generation_is_seen_in_every_condition() -> None:
    status = seen(long_lived().status, 7)
    assert status.observed_generation == 7
    assert {item.observed_generation for item in status.conditions} == {7}
    assert seen(status, 7) is status
