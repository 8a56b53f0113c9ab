"""Settings that change while a stage waits or runs."""

from typing import Any

import pytest

from finetune_operator.core import renewal
from finetune_operator.core.model import JobState, Waiting
from finetune_operator.vocabulary import StageState
from unit.operator.builders import job, resource
from unit.operator.world import World

SECRET: dict[str, Any] = {"model": {"tokenSecretRef": {"name": "hf-read"}}}
NODES: dict[str, Any] = {"scheduling": {"nodeSelector": {"pool": "gpu"}}}
MEMORY: dict[str, Any] = {"resources": {"memory": "64Gi"}}
W, R, S, D = JobState.WAITING, JobState.RUNNING, JobState.SUSPENDED, JobState.DELETING


@pytest.mark.parametrize(
    ("stage", "state", "changes", "asked", "expected"),
    [
        ("prepare", W, {}, False, False),
        ("prepare", W, {}, True, False),
        ("prepare", W, SECRET, False, True),
        ("prepare", W, NODES, False, True),
        ("prepare", S, NODES, False, True),
        ("prepare", D, NODES, False, True),
        ("prepare", R, NODES, False, False),
        ("prepare", R, NODES, True, True),
        ("prepare", R, {}, True, False),
        ("prepare", R, MEMORY, True, False),
        ("train", R, MEMORY, True, True),
        ("train", W, SECRET, True, False),
    ],
)
def test_when_a_job_makes_way(
    stage: str, state: JobState, changes: dict[str, Any], asked: bool, expected: bool
) -> None:
    due = renewal.is_due(job(stage, state=state), resource(**changes), asked=asked)
    assert due is expected


def stuck(**changes: Any) -> World:
    world = World(**changes)
    world.settle()
    world.waiting["demo-prepare-1"] = Waiting("FailedMount", 'secret "hf-raed" not found')
    world.settle()
    return world


def test_a_corrected_secret_reaches_the_stage_that_waits_for_it() -> None:
    world = stuck(model={"tokenSecretRef": {"name": "hf-raed"}})
    world.edit(rerunToken="2", **SECRET)
    world.settle()
    assert world.status.message == "prepare waits until Job demo-prepare-1 has stopped."
    world.gone()
    world.settle()
    assert world.only_live().name == "demo-prepare-2"
    assert world.stage("prepare").failures == 0
    assert not world.status.attempts
    assert world.status.rerun_token == "2"


def test_other_nodes_need_no_token_while_nothing_runs() -> None:
    world = stuck()
    world.edit(**NODES)
    world.settle()
    world.gone()
    world.settle()
    assert world.only_live().name == "demo-prepare-2"


def test_what_works_goes_on_until_a_token_asks_for_its_renewal() -> None:
    world = World()
    world.settle()
    world.become("demo-prepare-1", JobState.RUNNING)
    world.edit(**NODES)
    world.settle()
    assert world.only_live().state is JobState.RUNNING
    world.edit(rerunToken="2")
    world.settle()
    assert world.only_live().state is JobState.DELETING
    world.gone()
    world.settle()
    assert world.only_live().name == "demo-prepare-2"
    assert not world.status.attempts


def test_a_job_that_fails_while_it_makes_way_costs_nothing() -> None:
    world = stuck()
    world.edit(**NODES)
    world.settle()
    world.fail(143)
    world.settle()
    assert world.only_live().name == "demo-prepare-2"
    assert world.stage("prepare").state is StageState.RUNNING
    assert not world.status.attempts
