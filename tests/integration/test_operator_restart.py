"""An operator that is stopped, killed or started twice changes nothing about a run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.handle import Cluster
from integration.operator_process import OperatorProcess, install, kubeconfig
from integration.world import World


@pytest.fixture
def world(control_plane: Cluster) -> Iterator[World]:
    install(control_plane)
    with control_plane.namespace("restart") as namespace:
        yield World(control_plane, namespace)


def an_operator(world: World, directory: Path, name: str = "operator") -> OperatorProcess:
    """Responsible for the test's namespace only."""
    access = kubeconfig(world.cluster, directory / f"{name}-kubeconfig")
    only = {"FINETUNE_WATCH_NAMESPACES": world.namespace}
    return OperatorProcess(access, directory / f"{name}-log", only)


@pytest.fixture
def operator(world: World, tmp_path: Path) -> Iterator[OperatorProcess]:
    process = an_operator(world, tmp_path)
    process.start()
    yield process
    process.kill()


def test_it_stops_when_asked_within_the_time_that_its_deployment_grants(
    operator: OperatorProcess, world: World
) -> None:
    world.apply("demo")
    world.wait_for_job("demo-prepare-1")
    assert operator.stop() == 0


def test_a_killed_operator_goes_on_where_the_run_is(
    operator: OperatorProcess, world: World
) -> None:
    world.apply("demo")
    world.finish("demo-prepare-1", message="Done.")
    world.run("demo-train-1")
    operator.kill()
    # What happens meanwhile is seen afterwards.
    world.finish("demo-train-1", message="Loss 1.9.", steps=200)
    operator.start()
    world.finish("demo-merge-1", message="Merged.")
    operator.kill()
    operator.start()
    world.finish("demo-upload-1", message="Published.", repository="acme/tuned", commit="abc")
    status = world.wait_for_phase("demo", "Succeeded")
    assert [stage["attempt"] for stage in status["stages"]] == [1, 1, 1, 1]
    assert status.get("attempts", []) == []
    assert len(world.jobs()) == 4


def test_a_run_deleted_while_nobody_looked_is_not_brought_back(
    operator: OperatorProcess, world: World
) -> None:
    world.apply("demo")
    world.wait_for_pod("demo-prepare-1")
    operator.kill()
    world.delete("demo")
    # The garbage collector looks for new kinds of objects, as ours may be, every 30 s.
    world.wait_for_end_of("demo-prepare-1", seconds=60)
    operator.start()
    world.apply("other")
    world.wait_for_job("other-prepare-1")
    assert world.jobs() == ["other-prepare-1"]


def test_killed_at_any_moment_of_the_start_it_makes_every_object_once(
    operator: OperatorProcess, world: World
) -> None:
    # The calls of a start take some 40 ms: kill it at eight points of them.
    for number in range(8):
        world.apply(f"run-{number}")
        time.sleep(number * 0.006)
        operator.kill()
        operator.start()
        world.wait_for_job(f"run-{number}-prepare-1")
        world.wait_for_phase(f"run-{number}", "Preparing")
    assert world.jobs() == [f"run-{number}-prepare-1" for number in range(8)]


def test_two_operators_at_once_do_no_harm(
    operator: OperatorProcess, world: World, tmp_path: Path
) -> None:
    second = an_operator(world, tmp_path, "second")
    second.start()
    try:
        world.apply("demo")
        for stage in ("prepare", "train", "merge", "upload"):
            world.finish(f"demo-{stage}-1", message="Done.")
        status = world.wait_for_phase("demo", "Succeeded")
        assert status.get("attempts", []) == []
        assert len(world.jobs()) == 4
    finally:
        second.kill()
