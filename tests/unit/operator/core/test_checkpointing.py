"""A checkpoint that a user asks for by an annotation: what is a request, and what is said of what
is none.
"""

from __future__ import annotations

import pytest

from finetune_operator.core.checkpointing import KEPT, complaint, request_of, requested_at
from finetune_operator.core.model import JobState
from finetune_operator.vocabulary import ANNOTATION_CHECKPOINT, ConditionType, WaitReason
from unit.operator.world import World

GOOD = [
    "2026-01-31T12:00:00Z",
    "2026-01-31T12:00:00.123456789Z",
    "2026-01-31T12:00:00+02:00",
    "2024-02-29T23:59:59-11:30",
]
BAD = [
    "now",
    "true",
    "1769860800",
    "2026-01-31",
    "2026-01-31 12:00:00Z",
    "2026-01-31T12:00:00",
    "2026-01-31T12:00:00z",
    "2026-01-31T12:00:00Z\n2026-01-31T12:00:00Z",
    "2026-02-30T12:00:00Z",
    "2026-01-31T25:00:00Z",
    "٢٠٢٦-01-31T12:00:00Z",
    "2026-01-31T12:00:00." + "1" * 5000 + "Z",
]


def asked(value: str) -> dict[str, str]:
    return {ANNOTATION_CHECKPOINT: value}


@pytest.mark.parametrize("value", GOOD)
def test_a_time_is_passed_on_as_it_was_written(value: str) -> None:
    for written in (value, f" {value}\n"):
        assert requested_at(asked(written)) == value
        assert complaint(asked(written)) is None


@pytest.mark.parametrize("value", BAD)
def test_what_is_no_time_is_not_passed_on_but_named(value: str) -> None:
    assert requested_at(asked(value)) is None
    said = complaint(asked(value))
    assert said is not None
    assert ANNOTATION_CHECKPOINT in said
    assert len(said) < 250
    assert said.isprintable()


@pytest.mark.parametrize("annotations", [{}, asked(" "), {"finetune.dev/other": "now"}])
def test_without_a_value_nothing_is_asked_and_nothing_said(annotations: dict[str, str]) -> None:
    assert requested_at(annotations) is None
    assert complaint(annotations) is None


@pytest.mark.parametrize("value", [*GOOD, *BAD])
def test_what_is_kept_of_the_annotations_is_judged_as_the_whole(value: str) -> None:
    kept = request_of({**asked(value), "other": "x" * 200_000})
    assert kept == asked(value[:KEPT])
    assert requested_at(kept) == requested_at(asked(value))
    assert (complaint(kept) is None) == (complaint(asked(value)) is None)


def test_a_secret_that_got_there_is_not_shown() -> None:
    assert "hf_" not in str(complaint(asked("hf_abcdefghijklmnopqrstuvwxyz")))


def _training(world: World) -> World:
    world.succeed("Done.")
    world.settle()
    world.become(world.only_live().name, JobState.RUNNING)
    world.settle()
    return world


def test_a_run_in_training_says_that_its_request_is_none_and_trains_on() -> None:
    world = World(annotations=asked("soon"))
    world.settle()
    assert "Annotation" not in world.condition(ConditionType.READY)[2]
    _training(world)
    _, reason, message = world.condition(ConditionType.READY)
    assert reason == WaitReason.CHECKPOINT_REQUEST_INVALID
    assert message == world.status.message
    assert message.startswith("train runs as Job demo-train-1. Annotation finetune.dev/checkpoint-")
    assert 'is "soon", which is no time' in message
    assert [event.reason for event in world.events].count(reason) == 1
    assert [job.name for job in world.live()] == ["demo-train-1"]

    world.changes = {"annotations": asked(GOOD[0])}
    world.settle()
    assert world.condition(ConditionType.READY)[1:] == (
        "Training",
        "train runs as Job demo-train-1.",
    )
    assert [event.reason for event in world.events].count(reason) == 1
