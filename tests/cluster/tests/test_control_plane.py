"""The control plane alone: ready in time, whole, and gone without a trace."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from cluster import binaries
from cluster import control_plane as plane
from cluster.handle import Cluster

READY_SECONDS = 5.0
CRD = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "widgets.example.com"},
    "spec": {
        "group": "example.com",
        "scope": "Namespaced",
        "names": {"plural": "widgets", "singular": "widget", "kind": "Widget"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {"size": {"type": "integer"}},
                        "x-kubernetes-validations": [{"rule": "self.size < 3"}],
                    }
                },
            }
        ],
    },
}


@pytest.fixture(scope="module")
def widgets(control_plane: Cluster) -> Cluster:
    control_plane.kubectl("apply", "-f", "-", input=json.dumps(CRD))
    control_plane.wait_for_crd("widgets.example.com")
    return control_plane


def _widget(size: int) -> str:
    manifest = {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}}
    return json.dumps({**manifest, "size": size})


def test_custom_resources_are_stored_validated_and_deleted(widgets: Cluster) -> None:
    with widgets.namespace("widgets") as namespace:
        refused = widgets.kubectl(
            "-n", namespace, "create", "-f", "-", input=_widget(9), check=False
        )
        assert refused == ""
        widgets.kubectl("-n", namespace, "create", "-f", "-", input=_widget(1))
        assert "widget.example.com/w" in widgets.kubectl(
            "-n", namespace, "get", "widget", "-o", "name"
        )
        widgets.kubectl("-n", namespace, "delete", "widget", "w")
        assert widgets.kubectl("-n", namespace, "get", "widget", "-o", "name") == ""


def test_controllers_run(control_plane: Cluster) -> None:
    pod = {
        "metadata": {"labels": {"app": "x"}},
        "spec": {"restartPolicy": "Never", "containers": [{"name": "x", "image": "x"}]},
    }
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "j"},
        "spec": {"template": pod, "completions": 2, "parallelism": 2},
    }
    with control_plane.namespace("jobs", restricted=False) as namespace:
        control_plane.kubectl("-n", namespace, "create", "-f", "-", input=json.dumps(job))
        deadline = time.monotonic() + 60
        pods: list[str] = []
        while len(pods) < 2 and time.monotonic() < deadline:
            pods = control_plane.kubectl("-n", namespace, "get", "pods", "-o", "name").split()
        assert len(pods) == 2


def test_restricted_namespaces_refuse_root(control_plane: Cluster) -> None:
    with control_plane.namespace("restricted") as namespace:
        output = control_plane.kubectl(
            *("-n", namespace, "run", "x", "--image=x", "--dry-run=server", "-o", "name"),
            check=False,
        )
        assert output == ""


def test_writes_are_counted_in_the_audit_log(control_plane: Cluster) -> None:
    with control_plane.namespace("audit") as namespace:
        control_plane.kubectl("-n", namespace, "create", "configmap", "counted")
        assert control_plane.audit_log is not None
        events = [json.loads(line) for line in control_plane.audit_log.read_text().splitlines()]
        written = [
            event
            for event in events
            if event["verb"] == "create"
            and event.get("objectRef", {}).get("resource") == "configmaps"
            and event["objectRef"].get("name") == "counted"
            and event["objectRef"].get("namespace") == namespace
        ]
        assert len(written) == 1
        assert written[0]["level"] == "Metadata"


def test_two_run_side_by_side_each_ready_in_time(control_plane: Cluster) -> None:
    binaries.ensure(binaries.CONTROL_PLANE)
    spent: list[float] = []
    # A machine busy with other tests gets a second chance.
    while len(spent) < 3 and not any(seconds < READY_SECONDS for seconds in spent):
        start = time.monotonic()
        with plane.temporary() as other:
            spent.append(time.monotonic() - start)
            directory = Path(other.directory)
            assert other.kubeconfig != control_plane.kubeconfig
            assert other.client().ok("/readyz")
        assert not directory.exists()
    assert min(spent) < READY_SECONDS
