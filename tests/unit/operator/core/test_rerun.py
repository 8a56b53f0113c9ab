from typing import Any

import pytest

from finetune_operator.api.status import Artifacts, Status
from finetune_operator.core.model import CreateClaim, JobState, Refusal, Settings
from finetune_operator.core.rerun import Rerun, verdict
from finetune_operator.vocabulary import Phase, RefusalReason
from unit.operator.builders import SETTINGS, plan, resource
from unit.operator.world import World

STATUS = Status(rerun_token="old", plan_hash="x", artifacts=Artifacts(claim_name="demo-workspace"))
SEED: dict[str, Any] = {"training": {"seed": 7}}
MEMORY = {"resources": {"memory": "64Gi"}}
OTHER_CLAIM = {"storage": {"claimName": "other"}}
REPOSITORY: dict[str, Any] = {"upload": {"repository": "acme/other"}}
PRECISION: dict[str, Any] = {"merge": {"precision": "Float32"}}


@pytest.mark.parametrize(
    ("phase", "changes", "expected"),
    [
        (Phase.TRAINING, {"rerunToken": "old"}, Rerun.NOTHING),
        (Phase.TRAINING, {"rerunToken": "old", **SEED}, Rerun.NOTHING),
        (Phase.FAILED, {"rerunToken": "old"}, Rerun.NOTHING),
        (Phase.FAILED, {}, Rerun.NOTE),
        (Phase.FAILED, {"rerunToken": "new"}, Rerun.GO_ON),
        (Phase.FAILED, {"rerunToken": "new", **MEMORY}, Rerun.GO_ON),
        (Phase.FAILED, {"rerunToken": "new", **SEED}, Rerun.START_OVER),
        (Phase.FAILED, {"rerunToken": "new", **OTHER_CLAIM}, Rerun.START_OVER),
        (Phase.FAILED, {"rerunToken": "new", "trainer": {"image": "x"}}, Rerun.START_OVER),
        (Phase.FAILED, {"rerunToken": "new", **REPOSITORY}, Rerun.GO_ON),
        (Phase.FAILED, {"rerunToken": "new", **PRECISION}, Rerun.GO_ON),
        (Phase.FAILED, {"rerunToken": "new", **REPOSITORY, **SEED}, Rerun.START_OVER),
        (Phase.FAILED, {"rerunToken": "new", **REPOSITORY, **OTHER_CLAIM}, Rerun.START_OVER),
        (Phase.SUCCEEDED, {"rerunToken": "new", **REPOSITORY}, Rerun.GO_ON),
        (Phase.TRAINING, {"rerunToken": "new", **REPOSITORY}, Rerun.RENEW),
        (Phase.UPLOADING, {"rerunToken": "new", **PRECISION}, Rerun.RENEW),
        (Phase.TRAINING, {"rerunToken": "old", **REPOSITORY}, Rerun.NOTHING),
        (Phase.SUCCEEDED, {"rerunToken": "new"}, Rerun.START_OVER),
        (Phase.SUCCEEDED, {"rerunToken": "new", **SEED}, Rerun.START_OVER),
        (Phase.TRAINING, {}, Rerun.NOTE),
        (Phase.TRAINING, {"rerunToken": "new"}, Rerun.RENEW),
        (Phase.TRAINING, {"rerunToken": "new", **MEMORY}, Rerun.RENEW),
        (Phase.PREPARING, {"rerunToken": "new", "scheduling": {}}, Rerun.RENEW),
        (Phase.TRAINING, {"rerunToken": "new", **SEED}, Rerun.START_OVER),
    ],
)
def test_what_a_token_asks_for(phase: Phase, changes: dict[str, Any], expected: Rerun) -> None:
    status = STATUS.model_copy(update={"phase": phase})
    assert verdict(resource(status=status, **changes), plan(), SETTINGS) is expected


@pytest.mark.parametrize("phase", [Phase.FAILED, Phase.TRAINING])
def test_with_the_claim_everything_is_lost(phase: Phase) -> None:
    status = STATUS.model_copy(update={"phase": phase})
    asked = resource(status=status, rerunToken="new")
    assert verdict(asked, plan(), SETTINGS, claim_lost=True) is Rerun.START_OVER


def test_a_newer_default_image_does_not_discard_what_was_trained() -> None:
    status = STATUS.model_copy(update={"phase": Phase.FAILED})
    asked = resource(status=status, rerunToken="new")
    assert verdict(asked, plan(), Settings(trainer_image="trainer:2")) is Rerun.GO_ON


def failed_in_training() -> World:
    world = World()
    world.settle()
    world.succeed()
    world.settle()
    world.fail(10, "Wrong.")
    world.settle()
    assert world.status.phase == Phase.FAILED
    return world


def test_the_first_start_takes_the_token_for_done() -> None:
    world = World(rerunToken="first")
    world.settle()
    assert world.status.rerun_token == "first"
    assert list(world.jobs) == ["demo-prepare-1"]


def test_a_failed_run_goes_on_from_the_stage_that_failed() -> None:
    world = failed_in_training()
    before = world.status.plan_hash
    world.edit(rerunToken="again")
    world.settle()
    assert world.only_live().name == "demo-train-2"
    assert world.status.plan_hash == before
    assert world.status.completion_time is None
    assert world.condition("Failed")[0] == "False"
    assert world.condition("Stalled")[0] == "False"
    assert world.condition("Prepared")[0] == "True"


def test_a_rerun_has_a_fresh_budget() -> None:
    world = World()
    world.settle()
    for _ in range(3):
        world.fail(1)
        world.seconds += 400
        world.settle()
    assert world.status.phase == Phase.FAILED
    world.edit(rerunToken="again")
    world.settle()
    for attempt in (4, 5, 6):
        assert world.only_live().name == f"demo-prepare-{attempt}"
        world.fail(1)
        world.seconds += 400
        world.settle()
    assert world.status.phase == Phase.FAILED
    assert len(world.status.attempts) == 6


def test_another_plan_stops_what_runs_and_starts_over_with_new_names() -> None:
    world = World()
    world.settle()
    world.succeed(result={"modelCommit": "abc"})
    world.settle()
    world.edit(rerunToken="again", **SEED)
    world.settle()
    assert world.jobs["demo-train-1"].state is JobState.DELETING
    assert world.status.message == "prepare waits until Job demo-train-1 has stopped."
    world.gone()
    world.settle()
    assert world.only_live().name == "demo-prepare-2"
    assert world.status.plan_hash == plan(rerunToken="again", **SEED).hash
    assert world.status.resolved is not None
    assert world.status.resolved.model_commit is None
    world.succeed()
    world.settle()
    assert world.only_live().name == "demo-train-2"


def test_a_finished_run_starts_over_under_another_plan_hash() -> None:
    world = World(upload=None)
    world.settle()
    for _ in range(2):
        world.succeed()
        world.settle()
    first = world.status.plan_hash
    world.edit(rerunToken="again")
    world.settle()
    assert world.only_live().name == "demo-prepare-2"
    assert world.status.plan_hash != first


def test_a_plan_of_earlier_finds_new_names_and_none_of_its_old_results() -> None:
    world = World(rerunToken="a")
    world.settle()
    for _ in range(4):
        world.succeed()
        world.settle()
    world.edit(rerunToken="b", upload=None, **SEED)
    world.settle()
    for _ in range(2):
        world.succeed()
        world.settle()
    assert world.status.phase == Phase.SUCCEEDED
    world.changes = {}
    world.edit(rerunToken="a")
    world.settle()
    for name in ("prepare-3", "train-3", "merge-2", "upload-2"):
        assert world.only_live().name == f"demo-{name}"
        world.succeed()
        world.settle()
    assert world.status.phase == Phase.SUCCEEDED


def test_a_token_for_a_run_that_goes_as_asked_is_only_noted() -> None:
    world = World()
    world.settle()
    world.edit(rerunToken="again")
    world.settle()
    assert world.status.rerun_token == "again"
    assert list(world.jobs) == ["demo-prepare-1"]


@pytest.mark.parametrize("storage", [{"size": "100Gi"}, {"claimName": "mine"}])
def test_a_run_that_goes_on_has_its_claim_looked_after(storage: dict[str, Any]) -> None:
    world = World(storage={"claimName": "mine"} if "claimName" in storage else {})
    world.settle()
    world.fail(10, "The workspace volume is full.")
    world.settle()
    before = world.claims
    world.edit(rerunToken="again", storage=storage)
    world.settle()
    assert world.only_live().name == "demo-prepare-2"
    assert world.claims - before == ("size" in storage)


@pytest.mark.parametrize("final", [True, False])
def test_a_run_whose_claim_cannot_grow_has_not_gone_on(final: bool) -> None:
    world = failed_in_training()
    world.refuse[CreateClaim] = Refusal(
        RefusalReason.CLAIM_CANNOT_GROW,
        "It cannot grow. Undo it, then change spec.rerunToken.",
        final,
    )
    world.edit(rerunToken="again")
    world.settle()
    assert (world.status.phase, world.status.message) == (
        Phase.FAILED,
        "It cannot grow. Undo it, then change spec.rerunToken.",
    )
    assert world.status.rerun_token == ("again" if final else None)
    world.refuse.clear()
    world.edit(rerunToken="once more")
    world.settle()
    assert world.only_live().name == "demo-train-2"


def test_a_removed_token_is_forgotten_so_that_it_can_come_back() -> None:
    world = failed_in_training()
    world.edit(rerunToken="again")
    world.settle()
    world.fail(10, "Still wrong.")
    world.settle()
    world.edit(rerunToken=None)
    world.settle()
    assert (world.status.rerun_token, world.status.phase) == (None, Phase.FAILED)
    world.edit(rerunToken="again")
    world.settle()
    assert world.only_live().name == "demo-train-3"


def test_a_rerun_of_a_suspended_run_waits_until_it_goes_on() -> None:
    world = failed_in_training()
    world.edit(rerunToken="again", suspend=True)
    world.settle()
    assert world.status.phase == Phase.FAILED
    world.edit(suspend=False)
    world.settle()
    assert world.only_live().name == "demo-train-2"
