"""What counters count: every end of an attempt and of a stage once, through a run's whole life."""

from __future__ import annotations

import dataclasses

from finetune_operator.core import ends
from finetune_operator.core.ends import AttemptEnd, StageEnd
from finetune_operator.core.model import Decision
from finetune_operator.core.moments import to_text
from finetune_operator.vocabulary import ExitCode, Stage
from unit.operator.builders import later
from unit.operator.world import World


class Counted(World):
    """A world whose every written status is counted, from its beginning."""

    def __init__(self) -> None:
        super().__init__()
        self.attempts: list[AttemptEnd] = []
        self.stages: list[StageEnd] = []
        self.settle()

    def look(self, crash_after: int | None = None) -> Decision:
        observed, old = self.observed(), self.status
        decision = super().look(crash_after)
        self.attempts += ends.attempts_ended(old, self.status, observed, self.now)
        self.stages += ends.stages_ended(old, self.status)
        return decision

    def wait(self, seconds: float) -> Counted:
        self.seconds += seconds
        return self

    def told(self) -> list[tuple[str, str, float | None]]:
        return [(str(end.stage), end.reason, end.seconds) for end in self.attempts]


def in_training() -> Counted:
    world = Counted().wait(60)
    world.succeed()
    world.settle()
    world.attempts.clear()
    world.stages.clear()
    return world


def test_what_goes_on_has_not_ended() -> None:
    world = Counted()
    assert (world.attempts, world.stages) == ([], [])


def test_a_stage_that_succeeds_ends_once_with_its_attempt() -> None:
    world = Counted().wait(60)
    world.succeed()
    world.settle()
    assert world.told() == [("prepare", "Succeeded", 60)]
    assert world.stages == [StageEnd(Stage.PREPARE, "Succeeded", 60)]


def test_an_attempt_that_is_tried_again_ends_no_stage() -> None:
    world = Counted().wait(5)
    world.fail(ExitCode.RETRYABLE)
    world.settle()
    assert world.told() == [("prepare", "Retryable", 5)]
    assert world.stages == []


def test_a_stage_that_fails_ends_with_its_last_attempt() -> None:
    world = Counted().wait(5)
    world.fail(ExitCode.USER_ERROR)
    world.settle()
    assert world.told() == [("prepare", "UserError", 5)]
    assert world.stages == [StageEnd(Stage.PREPARE, "Failed", 5)]


def test_an_attempt_that_is_suspended_was_stopped() -> None:
    world = in_training().wait(30)
    world.edit(suspend=True)
    world.settle()
    world.wait(5)
    world.gone()
    world.settle()
    ((stage, reason, seconds),) = world.told()
    assert (stage, reason) == ("train", "Stopped")
    assert seconds is not None
    assert 30 <= seconds <= 35
    assert world.stages == []


def test_a_stage_that_is_tried_again_by_hand_ends_again() -> None:
    world = Counted().wait(5)
    world.fail(ExitCode.USER_ERROR)
    world.settle()
    world.wait(100).edit(rerunToken="again")
    world.settle()
    world.wait(7).succeed()
    world.settle()
    assert world.told() == [("prepare", "UserError", 5), ("prepare", "Succeeded", 7)]
    assert [(e.outcome, e.seconds) for e in world.stages] == [("Failed", 5), ("Succeeded", 112)]


def test_ends_that_come_while_the_operator_is_away_count_once() -> None:
    world = in_training().wait(100)
    world.succeed()
    world.look(crash_after=0)
    assert world.told() == []
    world.settle()
    assert world.told() == [("train", "Succeeded", 100)]


def test_time_counts_since_the_pod_ran_where_that_is_known() -> None:
    world = Counted().wait(100)
    name = world.only_live().name
    world.fail(ExitCode.RETRYABLE)
    left = world.terminations[name]
    world.terminations[name] = dataclasses.replace(left, started_at=to_text(later(90)))
    world.settle()
    assert world.told() == [("prepare", "Retryable", 10)]
