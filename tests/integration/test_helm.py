"""The chart on a real API server, by the real helm: nothing that is done to it touches a run.

A control plane of its own: a release owns what a cluster has once, the CRD and its ClusterRoles.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster import tools
from cluster.handle import Cluster, KubectlError
from cluster.tools import Helm, ToolError
from finetune_operator.api.crdgen import UNSEEN
from finetune_operator.runtime import certificate
from integration.operator_process import USER, free_port
from integration.releases import NAME, PREVIOUS, Releases
from integration.reporter import Reporter, settings
from integration.world import World, until
from unit.gitops.argocd import ARGOCD, read
from unit.helm.chart import (
    EVERYTHING,
    NAMESPACE,
    NOTHING,
    ROOT,
    Json,
    by_identity,
    hook_pod,
    rendered,
)

# In today's CRD, and not in that of the version to upgrade from.
NEW_FIELD = {"mlflow": {"experiment": "new"}}


@pytest.fixture
def releases(own_control_plane: Cluster, helm: Helm) -> Iterator[Releases]:
    found = Releases(own_control_plane, helm.on(own_control_plane.kubeconfig, NAMESPACE))
    yield found
    found.uninstall()


@pytest.fixture(scope="module")
def prometheus(own_control_plane: Cluster) -> None:
    """The Prometheus operator's kinds, without the operator."""
    for kind in ("podmonitors", "prometheusrules"):
        crd = tools.monitoring_crds() / f"monitoring.coreos.com_{kind}.yaml"
        own_control_plane.kubectl("apply", "--server-side", "-f", str(crd))
        own_control_plane.wait_for_crd(f"{kind}.monitoring.coreos.com")


def knows_the_new_field(releases: Releases) -> bool:
    (version,) = releases.crd()["spec"]["versions"]
    spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    return "mlflow" in spec["tracking"]["properties"]


def untouched(cluster: Cluster, namespace: str) -> dict[str, tuple[str, str]]:
    """Every object of the runs in a namespace: its uid, and the version that any write changes."""
    kinds = "finetunejobs,jobs,pods,persistentvolumeclaims,configmaps"
    found = json.loads(cluster.kubectl("get", kinds, "-n", namespace, "-o", "json"))
    return {
        f"{item['kind']}/{item['metadata']['name']}": (
            item["metadata"]["uid"],
            item["metadata"]["resourceVersion"],
        )
        for item in found["items"]
        if item["metadata"]["name"] != "kube-root-ca.crt"
    }


@pytest.mark.timeout(240)
def test_training_goes_on_through_upgrade_rollback_removal_and_return(
    own_control_plane: Cluster, releases: Releases, tmp_path: Path
) -> None:
    releases.install(chart=PREVIOUS)
    assert not knows_the_new_field(releases)
    with own_control_plane.namespace("helm") as namespace:
        world = World(own_control_plane, namespace)
        operator = releases.operator(tmp_path)
        operator.start()
        world.apply("demo")
        world.finish("demo-prepare-1", message="Done.")
        world.run("demo-train-1")
        world.wait_for_phase("demo", "Training")
        # The Job controller's last word for now.
        until(lambda: (world.job("demo-train-1") or {})["status"].get("ready"), "its pod is ready")
        operator.stop()
        before = untouched(own_control_plane, namespace)
        assert {"FineTuneJob/demo", "Job/demo-train-1"} <= before.keys()

        releases.upgrade()
        assert knows_the_new_field(releases)
        assert untouched(own_control_plane, namespace) == before
        world.apply("newer", tracking=NEW_FIELD, suspend=True)
        world.delete("newer")
        operator.start()
        assert world.jobs() == ["demo-prepare-1", "demo-train-1"]
        operator.stop()

        releases.rollback(1)
        assert not knows_the_new_field(releases)
        assert releases.history()[-1] == (3, "deployed")
        assert untouched(own_control_plane, namespace) == before

        said = releases.uninstall()
        assert NAME not in own_control_plane.kubectl("get", "clusterroles,deployments", "-A")
        assert untouched(own_control_plane, namespace) == before

        releases.install()
        assert knows_the_new_field(releases)
        assert untouched(own_control_plane, namespace) == before
        operator = releases.operator(tmp_path)
        operator.start()
        try:
            world.finish("demo-train-1", message="Trained.")
            world.wait_for_job("demo-merge-1")
        finally:
            operator.kill()
    assert "kept due to the resource policy" in said
    assert "[CustomResourceDefinition] finetunejobs.finetune.dev" in said


def test_what_kubectl_has_installed_is_taken_over(releases: Releases) -> None:
    releases.cluster.kubectl("apply", "-k", str(ROOT / "manifests" / "base"))
    before = releases.deployment()["metadata"]["uid"]
    with pytest.raises(ToolError, match="invalid ownership metadata"):
        releases.install()
    releases.install("--take-ownership", "--force-conflicts")
    assert releases.deployment()["metadata"]["uid"] == before
    # Fields that were the same are still kubectl's, too, until Helm has changed them.
    with pytest.raises(ToolError, match='conflicts with "kubectl-client-side-apply"'):
        releases.upgrade(chart=PREVIOUS)
    releases.upgrade("--force-conflicts", chart=PREVIOUS)
    releases.upgrade()


@pytest.mark.timeout(180)
def test_a_release_for_one_namespace_serves_that_and_may_nothing_beyond(
    own_control_plane: Cluster, releases: Releases, tmp_path: Path
) -> None:
    port, tls = free_port(), tmp_path / "tls"
    with (
        own_control_plane.namespace("ours") as ours,
        own_control_plane.namespace("theirs") as theirs,
    ):
        releases.install(values={"watch": {"namespaces": [ours]}})
        operator = releases.operator(tmp_path, settings(port, tls))
        operator.start()
        try:
            there, here = World(own_control_plane, theirs), World(own_control_plane, ours)
            there.apply("other")
            here.apply("demo")
            here.finish("demo-prepare-1", message="Done.")
            pod = Reporter(own_control_plane, ours, port, tls)
            token = pod.token(pod.audience("demo"), here.run("demo-train-1"))
            until(lambda: pod.report_step("demo", token, 1, 9) == 200, "a report is taken")
            assert there.status("other") == UNSEEN
        finally:
            operator.kill()
        for verb, kind in (("list", "finetunejobs"), ("create", "jobs"), ("get", "pods")):
            assert allowed(own_control_plane, verb, kind, ours)
            assert not allowed(own_control_plane, verb, kind, theirs)
        assert not allowed(own_control_plane, "get", "secrets", ours)


@pytest.mark.timeout(180)
def test_defaults_and_limits_of_the_chart_hold_for_runs(
    own_control_plane: Cluster, releases: Releases, tmp_path: Path
) -> None:
    values = {
        "runs": {"storageClassName": "shared", "nodeSelector": {"pool": "gpu"}},
        "limits": {"gpusPerRun": 8, "imageRegistries": ["registry.example.com/ml"]},
    }
    releases.install(values=values)
    with own_control_plane.namespace("limits") as namespace:
        world = World(own_control_plane, namespace)
        operator = releases.operator(tmp_path)
        operator.start()
        try:
            world.apply("large", resources={"gpusPerNode": 9}, trainer={"image": "mine:1"})
            said = world.wait_for_phase("large", "Failed")["message"]
            assert "spec.resources asks for 9 GPUs, and here a run may have at most 8" in said
            assert "spec.trainer.image is mine:1, and here images may come from" in said
            assert world.condition("large", "Failed")["reason"] == "NotAllowed"
            assert world.jobs() == []
            world.change(
                "large", resources={"gpusPerNode": 8}, trainer={"image": None}, rerunToken="2"
            )
            job = world.wait_for_job("large-prepare-1")
            assert job["spec"]["template"]["spec"]["nodeSelector"] == {"pool": "gpu"}
            assert world.claim("large-workspace")["spec"]["storageClassName"] == "shared"
        finally:
            operator.kill()


@pytest.mark.parametrize(
    "values",
    [{}, EVERYTHING, {**EVERYTHING, "watch": {"namespaces": ["default"]}}, NOTHING],
    ids=["default", "everything", "namespaced", "nothing"],
)
def test_every_object_is_accepted(
    own_control_plane: Cluster, prometheus: None, helm: Helm, values: Json
) -> None:
    objects = list(rendered(helm, values).values())
    accepted(own_control_plane, {"apiVersion": "v1", "kind": "List", "items": objects})


def test_what_kustomize_has_for_monitoring_is_accepted(
    own_control_plane: Cluster, prometheus: None, kustomize: Callable[[Path], str]
) -> None:
    objects = list(by_identity(kustomize(ROOT / "manifests" / "monitoring")).values())
    accepted(own_control_plane, {"apiVersion": "v1", "kind": "List", "items": objects})
    (rule,) = (found for found in objects if found["kind"] == "PrometheusRule")
    rule["spec"]["groups"][0]["rules"][0]["exprs"] = "1"
    with pytest.raises(KubectlError, match="exprs"):
        accepted(own_control_plane, rule)


def test_the_next_step_that_an_install_tells_can_be_done(
    own_control_plane: Cluster, releases: Releases
) -> None:
    said = releases.install()
    found = re.search(r"<<EOF\n(.*?)\n *EOF$", said, re.MULTILINE | re.DOTALL)
    assert found is not None, said
    run: Any = yaml.safe_load(found[1])
    with own_control_plane.namespace("notes") as namespace:
        options = ("--dry-run=server", "--validate=strict", "-n", namespace, "-f", "-")
        own_control_plane.kubectl("create", *options, input=json.dumps(run))


def test_the_command_in_the_notes_teaches_argo_cd_and_leaves_its_own_settings(
    own_control_plane: Cluster, releases: Releases
) -> None:
    own_control_plane.kubectl("create", "namespace", "argocd")
    create = ("create", "configmap", "argocd-cm", "-n", "argocd", "--from-literal=url=https://a")
    own_control_plane.kubectl(*create)
    said = releases.install(values={"argocd": {"enabled": True}})
    (command,) = re.findall(r"^ *(kubectl patch configmap argocd-cm .*)$", said, re.MULTILINE)
    kubectl = own_control_plane.kubectl_binary
    environment = {
        **os.environ,  # without a home kubectl would leave its cache in the working directory
        "PATH": f"{kubectl.parent}:{os.environ['PATH']}",
        "KUBECONFIG": str(own_control_plane.kubeconfig),
    }
    subprocess.run(["sh", "-c", command], env=environment, check=True)
    get = ("get", "configmap", "argocd-cm", "-n", "argocd", "-o", "json")
    data = json.loads(own_control_plane.kubectl(*get))["data"]
    assert data == {"url": "https://a", **read(ARGOCD / "argocd-cm.yaml")["data"]}


@pytest.mark.timeout(120)
def test_helm_test_tells_whether_pods_reach_the_operator(
    own_control_plane: Cluster, releases: Releases, tmp_path: Path
) -> None:
    releases.install()
    port, tls = free_port(), tmp_path / "tls"
    code = hook_pod(releases.helm)["spec"]["containers"][0]["args"][0]
    operator = releases.operator(tmp_path, settings(port, tls))
    operator.start()
    try:
        ended = reached(code, port, tls)
        assert (ended.returncode, ended.stderr) == (0, "")
        assert ended.stdout.startswith(f"The operator answers at https://localhost:{port}")
        foreign = tmp_path / "foreign"
        certificate.write(certificate.make(["localhost"]), foreign)
        assert "certificate verify failed" in reached(code, port, foreign).stderr
    finally:
        operator.kill()
    gone = reached(code, port, tls)
    assert gone.returncode == 1
    assert gone.stderr.startswith(f"The operator cannot be reached at https://localhost:{port}: ")
    assert "Traceback" not in gone.stderr


def test_the_pod_of_helm_test_is_accepted_where_pods_must_be_restricted(
    own_control_plane: Cluster, helm: Helm
) -> None:
    with own_control_plane.namespace("restricted") as namespace:
        enforce = "pod-security.kubernetes.io/enforce=restricted"
        own_control_plane.kubectl("label", "namespace", namespace, enforce)
        pod = hook_pod(helm, EVERYTHING)
        pod["metadata"]["namespace"] = namespace
        options = ("--dry-run=server", "--validate=strict", "-f", "-")
        own_control_plane.kubectl("create", *options, input=json.dumps(pod))


def reached(code: str, port: int, certificates: Path) -> subprocess.CompletedProcess[str]:
    """What `helm test` runs, without patience."""
    told = {"OPERATOR_URL": f"https://localhost:{port}", "CERTIFICATES": str(certificates)}
    environment = {"PATH": os.environ["PATH"], "PATIENCE_SECONDS": "0", **told}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


def accepted(cluster: Cluster, document: Json) -> None:
    """The API server takes these objects, and knows every field."""
    for namespace in (NAMESPACE, "monitoring"):
        cluster.kubectl("create", "namespace", namespace, check=False)
    options = ("--dry-run=server", "--server-side", "--force-conflicts", "--validate=strict")
    cluster.kubectl("apply", *options, "-f", "-", input=json.dumps(document))


def allowed(cluster: Cluster, verb: str, kind: str, namespace: str) -> bool:
    arguments = ("auth", "can-i", verb, kind, "-n", namespace, f"--as={USER}")
    return cluster.kubectl(*arguments, check=False).strip() == "yes"
