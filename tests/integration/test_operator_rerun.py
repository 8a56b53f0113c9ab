"""A rerun with other settings of what comes after training: the plans that are pinned, and which
Jobs are given which.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from kubernetes.client.exceptions import ApiException

from cluster.handle import Cluster
from integration.operator_process import OperatorProcess, install, kubeconfig
from integration.world import World, until


@pytest.fixture
def world(control_plane: Cluster) -> Iterator[World]:
    install(control_plane)
    with control_plane.namespace("rerun") as namespace:
        yield World(control_plane, namespace)


@pytest.fixture
def operator(world: World, tmp_path: Path) -> Iterator[OperatorProcess]:
    """Responsible for the test's namespace only."""
    access = kubeconfig(world.cluster, tmp_path / "kubeconfig")
    only = {"FINETUNE_WATCH_NAMESPACES": world.namespace}
    process = OperatorProcess(access, tmp_path / "log", only)
    process.start()
    yield process
    process.kill()


def refused_at_upload(world: World, name: str) -> None:
    """Apply a run that does everything but publish, which its token may not."""
    world.apply(name)
    for stage in ("prepare", "train", "merge"):
        world.finish(f"{name}-{stage}-1", message="Done.")
    world.finish(f"{name}-upload-1", code=10, message="The token may not write to acme/tuned.")
    world.wait_for_phase(name, "Failed")


def test_a_corrected_repository_is_uploaded_to_and_nothing_is_trained_again(
    world: World, operator: OperatorProcess
) -> None:
    refused_at_upload(world, "wrong")
    before = world.status("wrong")["planHash"]
    with pytest.raises(ApiException, match="what is trained is kept"):
        world.change("wrong", upload={"repository": "acme/other"})
    world.change("wrong", rerunToken="2", upload={"repository": "acme/other"})
    told = world.plan_of("wrong-upload-2")
    assert told["upload"]["repository"] == "acme/other"
    assert told["continues"]["stages"] == dict.fromkeys(("prepare", "train", "merge"), before)
    assert world.plan_of("wrong-train-1")["upload"]["repository"] == "acme/tuned"
    world.finish("wrong-upload-2", message="Published.", repository="acme/other", commit="abc")
    status = world.wait_for_phase("wrong", "Succeeded")
    assert status["planHash"] == told["planHash"] != before
    assert [stage["attempt"] for stage in status["stages"]] == [1, 1, 1, 2]
    # Also of a run that has ended well, and with what comes before upload.
    world.change("wrong", rerunToken="3", merge={"precision": "Float32"})
    world.finish("wrong-merge-2", message="Done.")
    world.finish("wrong-upload-3", message="Published.", repository="acme/other", commit="def")
    until(lambda: world.status("wrong")["artifacts"].get("commit") == "def", "the last commit")
    world.wait_for_phase("wrong", "Succeeded")
    assert [job for job in world.jobs() if "train" in job] == ["wrong-train-1"]


def test_training_goes_on_while_the_repository_is_corrected(
    world: World, operator: OperatorProcess
) -> None:
    world.apply("early")
    world.finish("early-prepare-1", message="Done.")
    world.run("early-train-1")
    before = world.status("early")["planHash"]
    world.change("early", rerunToken="2", upload={"repository": "acme/other"})
    until(lambda: world.status("early")["planHash"] != before, "the new plan")
    world.finish("early-train-1", message="Loss 1.9.", steps=200, adapter="adapter")
    world.finish("early-merge-1", message="Done.")
    assert world.plan_of("early-upload-1")["upload"]["repository"] == "acme/other"
    # What training said at its end was read, though it worked by the plan of before.
    assert world.status("early")["artifacts"]["adapter"] == "adapter"
    assert world.status("early").get("attempts", []) == []


def test_a_killed_operator_publishes_only_what_was_asked_for_last(
    world: World, operator: OperatorProcess
) -> None:
    refused_at_upload(world, "twice")
    world.change("twice", rerunToken="2", upload={"repository": "acme/one"})
    world.wait_for_job("twice-upload-2")
    operator.kill()
    # To where nobody wants it any more, and nobody has heard of it.
    world.finish("twice-upload-2", message="Published.", repository="acme/one", commit="abc")
    until(lambda: (world.job("twice-upload-2") or {})["status"].get("completionTime"), "its end")
    world.change("twice", rerunToken="3", upload={"repository": "acme/two"})
    operator.start()
    assert world.plan_of("twice-upload-3")["upload"]["repository"] == "acme/two"
    world.finish("twice-upload-3", message="Published.", repository="acme/two", commit="def")
    assert world.wait_for_phase("twice", "Succeeded")["artifacts"]["commit"] == "def"
    assert [job for job in world.jobs() if "train" in job] == ["twice-train-1"]


def test_a_restarted_operator_stops_the_job_that_nobody_wants_any_more_and_goes_on(
    world: World, operator: OperatorProcess
) -> None:
    world.apply("again")
    world.run("again-prepare-1")
    operator.kill()
    world.change("again", rerunToken="2", training={"seed": 7})
    operator.start()
    world.wait_for_end_of("again-prepare-1")
    # Where its watch of Jobs began too late to tell, the next list of all does in half a minute.
    world.wait_for_job("again-prepare-2", seconds=80)


def test_another_method_in_a_corrected_run_begins_anew(
    world: World, operator: OperatorProcess
) -> None:
    world.apply("other")
    world.finish("other-prepare-1", code=10, message="The column does not exist.")
    world.wait_for_phase("other", "Failed")
    world.change("other", rerunToken="2", method={"lora": None, "full": {}})
    assert world.plan_of("other-prepare-2")["method"] == {"full": {}}
