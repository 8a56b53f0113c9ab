"""Reruns with other settings of what comes after training: nothing that is trained is lost."""

from typing import Any

import pytest

from finetune_operator.core.model import JobState
from finetune_operator.vocabulary import Phase
from unit.operator.world import World

REPOSITORY: dict[str, Any] = {"upload": {"repository": "acme/other"}}
PRECISION: dict[str, Any] = {"merge": {"precision": "Float32"}}
ADAPTER: dict[str, Any] = {"upload": {"artifacts": ["Adapter"]}}
MADE: dict[str, dict[str, Any]] = {
    "train": {"adapter": "adapter", "loss": 1.5},
    "merge": {"merged": "merged"},
    "upload": {"repository": "acme/tuned", "commit": "abc", "url": "https://hub/acme/tuned"},
}
DONE, FAILS = "done", "fails"
UP_TO_UPLOAD = (DONE, DONE, DONE)


def after(*happenings: str, **changes: Any) -> World:
    """A run whose stages have ended so, one after the other, each settled."""
    world = World(**changes)
    world.settle()
    for happening in happenings:
        if happening == FAILS:
            world.fail(10, "Wrong.")
        else:
            world.succeed(result=MADE.get(world.only_live().stage))
        world.settle()
    return world


@pytest.mark.parametrize(
    ("happened", "changes", "made"),
    [
        ((*UP_TO_UPLOAD, FAILS), REPOSITORY, ["upload-2"]),
        ((*UP_TO_UPLOAD, FAILS), {"upload": {"private": True}}, ["upload-2"]),
        ((*UP_TO_UPLOAD, FAILS), PRECISION, ["merge-2", "upload-2"]),
        ((*UP_TO_UPLOAD, FAILS), ADAPTER, ["upload-2"]),
        ((*UP_TO_UPLOAD, FAILS), {"upload": None}, []),
        ((DONE, DONE, FAILS), PRECISION, ["merge-2", "upload-1"]),
        ((DONE, DONE, FAILS), ADAPTER, ["upload-1"]),
        ((DONE, DONE, FAILS), REPOSITORY, ["merge-2", "upload-1"]),
        ((DONE, FAILS), REPOSITORY, ["train-2", "merge-1", "upload-1"]),
        ((FAILS,), REPOSITORY, ["prepare-2", "train-1", "merge-1", "upload-1"]),
        ((*UP_TO_UPLOAD, DONE), REPOSITORY, ["upload-2"]),
        ((*UP_TO_UPLOAD, DONE), PRECISION, ["merge-2", "upload-2"]),
        ((*UP_TO_UPLOAD, DONE), ADAPTER, ["upload-2"]),
    ],
)
def test_only_stages_that_are_told_something_else_and_later_ones_run_again(
    happened: tuple[str, ...], changes: dict[str, Any], made: list[str]
) -> None:
    world = after(*happened)
    before = set(world.jobs)
    world.edit(rerunToken="again", **changes)
    world.settle()
    for name in made:
        assert world.only_live().name == f"demo-{name}"
        world.succeed()
        world.settle()
    assert world.status.phase == Phase.SUCCEEDED
    assert world.jobs.keys() - before == {f"demo-{name}" for name in made}


def test_an_artefact_that_needs_a_merge_has_one_made_of_what_was_trained() -> None:
    world = after(DONE, DONE, DONE, **ADAPTER)
    assert world.status.phase == Phase.SUCCEEDED
    world.edit(rerunToken="again", upload={})
    world.settle()
    assert world.only_live().name == "demo-merge-1"
    world.succeed()
    world.settle()
    assert world.only_live().name == "demo-upload-2"


def test_the_new_plan_is_pinned_for_the_stages_that_it_is_another_for() -> None:
    world = after(*UP_TO_UPLOAD, FAILS)
    first = world.plans[world.status.plan_hash or ""]
    world.edit(rerunToken="again", **REPOSITORY)
    world.settle()
    second = world.plans[world.status.plan_hash or ""]
    assert set(world.plans) == {first.hash, second.hash}
    assert first.run["upload"]["repository"] == "acme/tuned"
    assert second.run["upload"]["repository"] == "acme/other"
    assert world.only_live().plan_hash == second.hash
    assert world.jobs["demo-train-1"].plan_hash == first.hash


def test_training_that_goes_on_later_keeps_the_plan_that_it_began_by() -> None:
    world = after(DONE, FAILS)
    first = world.status.plan_hash
    world.edit(rerunToken="again", **REPOSITORY)
    world.settle()
    world.fail(10, "Still wrong.")
    world.settle()
    world.edit(rerunToken="once more", upload={"branch": "next"})
    world.settle()
    assert world.only_live().name == "demo-train-3"
    assert world.only_live().plan_hash == first
    for _ in range(3):
        world.succeed()
        world.settle()
    assert world.status.phase == Phase.SUCCEEDED
    assert world.jobs["demo-upload-1"].plan_hash == world.status.plan_hash != first


def test_training_is_not_disturbed_by_another_repository() -> None:
    world = after(DONE)
    world.become("demo-train-1", JobState.RUNNING)
    world.settle()
    world.edit(rerunToken="again", **REPOSITORY)
    world.settle()
    assert world.only_live().state is JobState.RUNNING
    assert (world.status.phase, world.status.rerun_token) == (Phase.TRAINING, "again")
    assert world.status.attempts == []


def test_an_upload_to_the_wrong_repository_is_stopped_before_the_right_one_begins() -> None:
    world = after(*UP_TO_UPLOAD)
    world.become("demo-upload-1", JobState.RUNNING)
    world.settle()
    world.edit(rerunToken="again", **REPOSITORY)
    world.settle()
    assert world.jobs["demo-upload-1"].state is JobState.DELETING
    assert world.status.message == "upload waits until Job demo-upload-1 has stopped."
    world.gone()
    world.settle()
    assert world.only_live().name == "demo-upload-2"
    assert world.status.attempts == []


def test_what_is_made_anew_is_no_artefact_any_more_and_all_else_is_kept() -> None:
    world = after(*UP_TO_UPLOAD, DONE)
    began = world.status.start_time
    world.seconds += 60
    world.edit(rerunToken="again", **REPOSITORY)
    world.settle()
    made = world.status.artifacts
    assert made is not None
    assert (made.adapter, made.merged) == ("adapter", "merged")
    assert (made.repository, made.commit, made.url) == (None, None, None)
    assert world.status.metrics["loss"] == "1.5"
    assert (world.status.start_time, world.status.completion_time) == (began, None)
    assert world.condition("Trained")[0] == "True"
    assert world.condition("Uploaded")[0] == "False"
    assert world.condition("Succeeded")[0] == "False"


def test_an_upload_that_nobody_wants_any_more_leaves_a_run_that_has_ended() -> None:
    world = after(*UP_TO_UPLOAD, FAILS)
    world.edit(rerunToken="again", upload=None)
    world.settle()
    assert world.status.phase == Phase.SUCCEEDED
    assert [entry.name for entry in world.status.stages] == ["prepare", "train"]


def test_a_corrected_stage_has_a_fresh_budget() -> None:
    world = after(*UP_TO_UPLOAD)
    for token in (None, "again"):
        world.edit(rerunToken=token, **(REPOSITORY if token else {}))
        world.settle()
        for _ in range(3):
            world.fail(11, "The Hub does not answer.")
            world.seconds += 400
            world.settle()
        assert world.status.phase == Phase.FAILED
    assert world.status.attempts[-1].attempt == 6


def test_tokens_and_settings_that_come_back_give_another_plan() -> None:
    world = after(*UP_TO_UPLOAD, DONE)
    hashes = {world.status.plan_hash}
    for number, (token, repository) in enumerate((("a", "one"), ("b", "two")) * 2, start=2):
        world.edit(rerunToken=token, upload={"repository": f"acme/{repository}"})
        world.settle()
        assert world.only_live().name == f"demo-upload-{number}"
        assert world.status.plan_hash not in hashes
        hashes.add(world.status.plan_hash)
        world.succeed()
        world.settle()


def test_a_change_of_mind_while_the_operator_was_away_publishes_only_the_last() -> None:
    world = after(*UP_TO_UPLOAD, FAILS)
    world.edit(rerunToken="a", upload={"repository": "acme/one"})
    world.look(crash_after=3)
    assert world.only_live().name == "demo-upload-2"
    world.succeed(result={"repository": "acme/one", "commit": "abc"})
    world.edit(rerunToken="b", upload={"repository": "acme/two"})
    world.settle()
    assert world.only_live().name == "demo-upload-3"
    assert world.plans[world.only_live().plan_hash].run["upload"]["repository"] == "acme/two"
