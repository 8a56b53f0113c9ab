"""The operator's rights are the least that work: what it is granted is what it was seen to use."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
import yaml

from cluster.handle import Cluster
from integration.audit import requests_of
from integration.operator_process import (
    ROOT,
    USER,
    OperatorProcess,
    free_port,
    install,
    kubeconfig,
)
from integration.reporter import Reporter, settings
from integration.world import World, until

Right = tuple[str, str, str]
"""Group, resource and verb."""

# The API server writes its log in batches.
LOG_SECONDS = 3.0
# Asked for by an admission plug-in that is off here: manifests/base/rbac.yaml says why.
UNSEEN: set[Right] = {("finetune.dev", "finetunejobs/finalizers", "update")}


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def operator(control_plane: Cluster, port: int, tmp_path: Path) -> Iterator[OperatorProcess]:
    install(control_plane)
    access = kubeconfig(control_plane, tmp_path / "kubeconfig")
    process = OperatorProcess(access, tmp_path / "log", settings(port, tmp_path / "tls"))
    process.start()
    yield process
    process.kill()


@pytest.mark.timeout(180)
def test_no_right_is_granted_that_is_not_used(
    control_plane: Cluster, operator: OperatorProcess, port: int, tmp_path: Path
) -> None:
    assert control_plane.audit_log is not None
    begun = time.time()
    with control_plane.namespace("rights") as namespace:
        world = World(control_plane, namespace)
        _a_life_with_everything(
            world, operator, Reporter(control_plane, namespace, port, tmp_path / "tls")
        )
    operator.kill()
    time.sleep(LOG_SECONDS)
    used = _used(control_plane.audit_log, begun)
    assert _granted() - used == UNSEEN
    assert used <= _granted()


def _a_life_with_everything(world: World, operator: OperatorProcess, pod: Reporter) -> None:
    world.apply("full", resources={"nodes": 2})
    world.wait_for_phase("full", "Preparing")
    # As after a crash before the first status: what is there is looked at, whose it is.
    world.forget_status("full")
    # Its pod finds no node: pods are read.
    world.wait_for_message("full", "prepare waits")
    world.finish("full-prepare-1", message="Done.")
    token = pod.token(pod.audience("full"), world.run("full-train-1"))
    until(lambda: pod.report_step("full", token, 1, 9) == 200, "a report is taken")
    operator.kill()
    operator.start()
    world.change("full", suspend=True)
    world.wait_for_end_of("full-train-1")
    world.wait_for_phase("full", "Suspended")
    world.change("full", suspend=False)
    world.wait_for_job("full-train-2")
    # It is asked for before it is taken for deleted.
    world.delete_job("full-train-2")
    until(lambda: world.status("full").get("attempts"), "the loss is noted")
    # A claim that has no volume yet cannot grow.
    world.change("full", storage={"size": "999Gi"}, rerunToken="larger")
    world.wait_for_message("full", "cannot grow")
    # Pods that are not even made: the Job's events are read.
    world.allow_no_pods()
    world.apply("poor")
    world.wait_for_message("poor", "exceeded quota")


def _granted() -> set[Right]:
    text = (ROOT / "manifests" / "base" / "rbac.yaml").read_text()
    return {
        (group, resource, verb)
        for role in yaml.safe_load_all(text)
        if role["kind"] == "ClusterRole"
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def _used(log: Path, since: float) -> set[Right]:
    used = set()
    for entry in requests_of(log, USER):
        about = entry.get("objectRef", {})
        moment = datetime.fromisoformat(entry["stageTimestamp"]).timestamp()
        if "resource" in about and moment >= since:
            parts = (about["resource"], about.get("subresource"))
            used.add((about.get("apiGroup", ""), "/".join(filter(None, parts)), entry["verb"]))
    return used
