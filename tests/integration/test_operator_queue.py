"""A queued run on a real control plane, on which the test is Kueue: it starts and stops Jobs by
their `suspend`, and never touches the FineTuneJob.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.handle import Cluster
from finetune_operator.core.queueing import PRIORITY, QUEUE
from integration.operator_process import OperatorProcess, install, kubeconfig
from integration.world import World, until

QUEUED = {QUEUE: "team", PRIORITY: "high"}


@pytest.fixture
def world(control_plane: Cluster, tmp_path: Path) -> Iterator[World]:
    install(control_plane)
    access = kubeconfig(control_plane, tmp_path / "kubeconfig")
    operator = OperatorProcess(access, tmp_path / "log")
    operator.start()
    with control_plane.namespace("queue") as namespace:
        yield World(control_plane, namespace)
    assert operator.stop() == 0


def admit(world: World, job: str) -> None:
    """As Kueue does it: the node selector of a flavor, then the start."""
    for spec in (
        {"template": {"spec": {"nodeSelector": {"pool": "a100"}}}},
        {"suspend": False},
    ):
        change(world, f"job/{job}", {"spec": spec})


def change(world: World, what: str, patch: dict[str, Any]) -> None:
    about = ("-n", world.namespace, what, "--type=merge", "-p", json.dumps(patch))
    world.cluster.kubectl("patch", *about)


def test_kueue_decides_when_each_stage_of_a_queued_run_starts(world: World) -> None:
    world.apply("demo", labels=QUEUED)
    job = world.wait_for_job("demo-prepare-1")
    assert job["spec"]["suspend"] is True
    assert QUEUED.items() <= job["metadata"]["labels"].items()
    world.wait_for_message("demo", "prepare is queued: Job demo-prepare-1 is suspended.")
    assert world.pods("demo-prepare-1") == []

    admit(world, "demo-prepare-1")
    world.finish("demo-prepare-1", message="Done.")
    assert world.wait_for_job("demo-train-1")["spec"]["suspend"] is True
    admit(world, "demo-train-1")
    world.run("demo-train-1")
    world.wait_for_message("demo", "train runs as Job demo-train-1.")
    status = world.status("demo")
    assert "attempts" not in status
    assert world.condition("demo", "Suspended")["status"] == "False"


def test_a_run_that_waits_in_a_wrong_queue_moves_to_the_right_one(world: World) -> None:
    world.apply("demo", labels=QUEUED)
    world.wait_for_message("demo", "is queued")
    change(world, "ftj/demo", {"metadata": {"labels": {QUEUE: "other"}}})
    job = world.wait_for_job("demo-prepare-2")
    assert job["metadata"]["labels"][QUEUE] == "other"
    until(lambda: world.job("demo-prepare-1") is None, "the Job in the wrong queue is gone")
