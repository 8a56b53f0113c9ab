"""`export-job` against a real API server: it takes every object in a restricted namespace, and a
real Job controller runs them in order, again and to an end; the test plays the nodes. There is no
operator.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.handle import Cluster
from finetune_cli.exported import exported
from finetune_cli.show import export as form
from finetune_operator.core.model import Settings
from integration.test_manifests import EVERYTHING, accepted, as_pod
from integration.world import World, until
from stack.desk import ROOT, Desk
from unit.operator.builders import MINIMAL, merged

Json = dict[str, Any]
SAMPLES = sorted((ROOT / "manifests" / "samples").glob("*.yaml"))
DOCUMENT: Json = {
    "apiVersion": "finetune.dev/v1alpha1",
    "kind": "FineTuneJob",
    "metadata": {"name": "demo"},
    "spec": merged(MINIMAL, {"upload": None}),
}


@pytest.fixture
def world(control_plane: Cluster) -> Iterator[World]:
    with control_plane.namespace("export", restricted=True) as namespace:
        yield World(control_plane, namespace)


@pytest.fixture
def desk(world: World, tmp_path: Path) -> Desk:
    (tmp_path / "run.yaml").write_text(json.dumps(DOCUMENT))
    return Desk(world.cluster, world.namespace, tmp_path)


@pytest.mark.parametrize("path", [*SAMPLES, None], ids=lambda path: path.stem if path else "all")
def test_every_object_is_accepted_and_every_pod_is_restricted(
    control_plane: Cluster, world: World, path: Path | None
) -> None:
    document = yaml.safe_load(path.read_text()) if path else DOCUMENT
    if path is None:
        document = {**document, "spec": merged(document["spec"], EVERYTHING)}
    settings = Settings(trainer_image="registry.example/trainer:1", hub_endpoint="http://hub.test")
    items = form.list_of(exported(document, settings, world.namespace))["items"]
    pods = [as_pod(item) for item in items if item["kind"] == "Job"]
    for pod in pods:
        pod["spec"].pop("priorityClassName", None)  # must be there, for a pod
    assert len(accepted(control_plane, [*items, *pods]).split()) == len(items) + len(pods)


def script(desk: Desk) -> str:
    """What a person saves as run.sh; its pauses shorter, as the test has no time."""
    text = desk.run("export-job", "run.yaml", "--trainer-image", "trainer:1", "-o", "sh")
    (desk.directory / "run.sh").write_text(text.replace(f"sleep {form.PAUSE_SECONDS}", "sleep 0.2"))
    return "run.sh"


def test_the_script_takes_the_stages_in_turn(world: World, desk: Desk) -> None:
    running = desk.launch("sh", script(desk))
    world.wait_for_job("demo-prepare-1")
    assert world.jobs() == ["demo-prepare-1"]
    world.finish("demo-prepare-1")
    world.wait_for_job("demo-train-1")
    world.finish("demo-train-1")
    assert desk.end(running).splitlines()[-1] == "FineTuneJob demo is complete."
    # Everything is there already: nothing is done twice.
    again = desk.end(desk.launch("sh", "run.sh"))
    assert "job.batch" not in again
    assert again.splitlines()[-1] == "FineTuneJob demo is complete."


def test_the_script_of_a_changed_file_does_it_all_again(world: World, desk: Desk) -> None:
    running = desk.launch("sh", script(desk))
    world.finish("demo-prepare-1")
    world.run("demo-train-1")
    running.kill()
    running.communicate()
    first = world.wait_for_job("demo-train-1")["metadata"]["uid"]
    # By itself it leaves alone what works.
    again = desk.launch("sh", "run.sh")
    assert again.stdout is not None
    assert "unchanged" in again.stdout.readline()
    again.kill()
    again.communicate()
    assert world.wait_for_job("demo-train-1")["metadata"]["uid"] == first

    changed = {**DOCUMENT, "spec": merged(DOCUMENT["spec"], {"training": {"epochs": 2}})}
    (desk.directory / "run.yaml").write_text(json.dumps(changed))
    before = world.wait_for_job("demo-prepare-1")["metadata"]["uid"]
    running = desk.launch("sh", script(desk))
    until(lambda: _is_another(world, "demo-prepare-1", before), "prepare is done again")
    assert world.jobs() == ["demo-prepare-1"]  # what trained by the former plan is stopped first
    world.finish("demo-prepare-1")
    until(lambda: _is_another(world, "demo-train-1", first), "train is done again")
    world.finish("demo-train-1")
    assert desk.end(running).splitlines()[-1] == "FineTuneJob demo is complete."


def test_the_script_ends_at_a_failure_and_goes_on_there(world: World, desk: Desk) -> None:
    running = desk.launch("sh", script(desk))
    world.finish("demo-prepare-1")
    world.finish("demo-train-1", 10)
    assert "Job demo-train-1 has failed" in running.communicate(timeout=60)[1]
    assert running.returncode == 1

    first = world.wait_for_job("demo-train-1")["metadata"]["uid"]
    running = desk.launch("sh", "run.sh")
    until(lambda: _is_another(world, "demo-train-1", first), "there is another Job")
    world.finish("demo-train-1")
    assert desk.end(running).splitlines()[-1] == "FineTuneJob demo is complete."


@pytest.mark.parametrize(("code", "counted"), [(13, 0), (11, 1)], ids=["preempted", "retryable"])
def test_a_job_starts_another_pod_by_itself(
    world: World, desk: Desk, code: int, counted: int
) -> None:
    words = ("export-job", "run.yaml", "--trainer-image", "trainer:1")
    (desk.directory / "objects.yaml").write_text(desk.run(*words))
    desk.end(desk.start("apply", "-f", "objects.yaml"))
    assert world.jobs() == ["demo-prepare-1", "demo-train-1"]
    assert world.pods("demo-train-1") == []  # it is suspended
    world.finish("demo-prepare-1", code)
    until(lambda: len(world.pods("demo-prepare-1")) == 2, "there is a second pod", 40)
    job = world.wait_for_job("demo-prepare-1")
    assert job["status"].get("failed", 0) == counted, job["status"]


def test_the_comment_says_how_to_start_the_next_and_to_remove_all(world: World, desk: Desk) -> None:
    words = ("export-job", "run.yaml", "--trainer-image", "trainer:1")
    text = desk.run(*words)
    (desk.directory / "objects.yaml").write_text(text)
    desk.end(desk.start("apply", "-f", "objects.yaml"))
    start, remove = (line[4:] for line in text.splitlines() if line.startswith("#   kubectl"))
    desk.end(desk.launch("sh", "-c", start))
    world.wait_for_pod("demo-train-1")
    desk.end(desk.launch("sh", "-c", f"{remove} --wait=false"))
    until(lambda: not world.jobs(), "the Jobs are gone")


def _is_another(world: World, name: str, uid: str) -> bool:
    job = world.job(name)
    return job is not None and job["metadata"]["uid"] != uid
