"""A Job that somebody suspends while its pods run, as Kueue does for a more urgent one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.handle import Cluster
from integration.operator_process import OperatorProcess, install, kubeconfig
from integration.world import World, until


@pytest.fixture
def world(control_plane: Cluster, tmp_path: Path) -> Iterator[World]:
    install(control_plane)
    with control_plane.namespace("giving-way") as namespace:
        only = {"FINETUNE_WATCH_NAMESPACES": namespace}
        access = kubeconfig(control_plane, tmp_path / "kubeconfig")
        process = OperatorProcess(access, tmp_path / "log", only)
        process.start()
        yield World(control_plane, namespace)
        assert process.stop() == 0


def suspend(world: World, job: str, *, really: bool) -> None:
    patch = json.dumps({"spec": {"suspend": really}})
    world.cluster.kubectl("patch", "-n", world.namespace, f"job/{job}", "--type=merge", "-p", patch)


@pytest.mark.parametrize("told", [True, False], ids=["its end is seen", "its pod is gone at once"])
def test_training_that_gives_way_waits_and_goes_on_and_has_failed_nothing(
    world: World, told: bool
) -> None:
    world.apply("polite")
    world.finish("polite-prepare-1", message="Done.")
    world.bind(world.wait_for_pod("polite-train-1"))
    world.run("polite-train-1")
    world.wait_for_message("polite", "train runs as Job polite-train-1.")
    suspend(world, "polite-train-1", really=True)
    world.wait_for_message("polite", "train is queued: Job polite-train-1 is suspended.")
    if told:
        world.finish("polite-train-1", code=13, message="Stopped after step 20.")
        # The Job fails by its podFailurePolicy, and the next attempt takes its place.
        until(lambda: "Failed" in conditions(world, "polite-train-1"), "the Job has failed")
        world.stop_pods("polite-train-1")
        last = "polite-train-2"
    else:
        world.stop_pods("polite-train-1")
        until(lambda: not world.pods("polite-train-1"), "its pod is gone")
        assert conditions(world, "polite-train-1") == {"Suspended"}
        suspend(world, "polite-train-1", really=False)
        last = "polite-train-1"
    world.wait_for_job(last, seconds=40)
    until(lambda: world.pods(last), f"{last} has a pod", seconds=20)
    world.finish(last, message="Loss 1.9 after 200 steps.", steps=200)
    world.wait_for_job("polite-merge-1")
    assert [stage.get("failures", 0) for stage in world.status("polite")["stages"]] == [0] * 4
    reasons = [attempt["reason"] for attempt in world.status("polite").get("attempts", [])]
    assert reasons == (["Preempted"] if told else [])


def conditions(world: World, job: str) -> set[str]:
    """The conditions of this Job that hold."""
    found = (world.job(job) or {}).get("status", {}).get("conditions") or []
    return {condition["type"] for condition in found if condition["status"] == "True"}
