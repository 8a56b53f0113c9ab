"""A FineTuneJob that is synced from Git: the operator never makes it differ from its file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from cluster.handle import Cluster, KubectlError
from cluster.tools import GitOps
from finetune_operator.vocabulary import ANNOTATION_CHECKPOINT
from integration.audit import wait_for_write, writes_on
from integration.operator_process import USER, OperatorProcess, install, kubeconfig
from integration.world import World, until
from unit.gitops.argocd import ACTIONS
from unit.operator.builders import MINIMAL

Json = dict[str, Any]

# As Argo CD does it with ServerSideApply=true.
CONTROLLER = ("--server-side", "--force-conflicts", "--field-manager=argocd-controller")


@pytest.fixture(scope="module")
def operator(
    control_plane: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OperatorProcess]:
    install(control_plane)
    directory = tmp_path_factory.mktemp("operator")
    access = kubeconfig(control_plane, directory / "kubeconfig")
    process = OperatorProcess(access, directory / "log")
    process.start()
    yield process
    assert process.stop() == 0


@pytest.fixture
def world(control_plane: Cluster, operator: OperatorProcess) -> Iterator[World]:
    with control_plane.namespace("gitops") as namespace:
        yield World(control_plane, namespace)


class Repository:
    """A file in Git, and Argo CD that syncs it."""

    def __init__(self, world: World, name: str, **spec: Any) -> None:
        self.world, self.name = world, name
        # What Argo CD tracks a resource by, and a label of the user's.
        tracking = f"runs:finetune.dev/FineTuneJob:{world.namespace}/{name}"
        metadata = {
            "name": name,
            "namespace": world.namespace,
            "labels": {"team": "nlp", "app.kubernetes.io/instance": "runs"},
            "annotations": {"argocd.argoproj.io/tracking-id": tracking},
        }
        self.file: Json = {
            "apiVersion": "finetune.dev/v1alpha1",
            "kind": "FineTuneJob",
            "metadata": metadata,
            "spec": {**MINIMAL, **spec},
        }

    def sync(self) -> None:
        self._kubectl("apply", *CONTROLLER)

    def difference(self) -> str:
        """What a sync would change: Argo CD's server-side diff."""
        live = _comparable(self.live())
        synced = json.loads(self._kubectl("apply", *CONTROLLER, "--dry-run=server", "-o", "json"))
        found = _comparable(synced)
        return "" if found == live else f"{live}\n{found}"

    def diff(self) -> str:
        """The same by kubectl: KubectlError if there is one."""
        return self._kubectl("diff", *CONTROLLER)

    def live(self) -> Json:
        about = ("-n", self.world.namespace, f"ftj/{self.name}", "--show-managed-fields")
        found: Json = json.loads(self.world.cluster.kubectl("get", *about, "-o", "json"))
        return found

    def act(self, **spec: Any) -> None:
        """What an action of Argo CD does: its server patches the object."""
        self.patch(spec=spec)

    def patch(self, **fields: Any) -> None:
        """The same, of any part of it."""
        patch = json.dumps(fields)
        about = ("-n", self.world.namespace, f"ftj/{self.name}", "--type=merge", "-p", patch)
        self.world.cluster.kubectl("patch", *about, "--field-manager=argocd-server")

    def _kubectl(self, verb: str, *options: str) -> str:
        return self.world.cluster.kubectl(verb, *options, "-f", "-", input=json.dumps(self.file))


def _comparable(found: Json) -> Json:
    """Without what the API server counts: versions and times of writes."""
    metadata = dict(found["metadata"])
    for field in ("managedFields", "resourceVersion"):
        metadata.pop(field, None)
    return {**found, "metadata": metadata}


def to_training(world: World, name: str) -> None:
    world.finish(f"{name}-prepare-1", message="1800 examples of 2000 rows.", totalSteps=200)
    world.run(f"{name}-train-1")
    world.wait_for_phase(name, "Training")


def to_success(world: World, name: str, train: str) -> None:
    world.finish(train, message="Loss 1.93 after 200 steps.", steps=200, loss=1.93)
    world.finish(f"{name}-merge-1", message="Merged.", merged="/workspace/merged")
    world.finish(f"{name}-upload-1", message="Done.", repository="acme/tuned", commit="abc123")
    world.wait_for_phase(name, "Succeeded")


def test_after_a_whole_life_the_file_is_in_sync_and_only_status_was_written(world: World) -> None:
    git = Repository(world, "synced")
    git.sync()
    before = git.live()
    to_training(world, "synced")
    assert git.difference() == ""
    to_success(world, "synced", "synced-train-1")

    assert git.difference() == ""
    assert git.diff() == ""
    after = git.live()
    assert after["spec"] == before["spec"]
    for field in ("labels", "annotations", "finalizers", "ownerReferences", "generation"):
        assert after["metadata"].get(field) == before["metadata"].get(field)
    owned = {entry["manager"]: entry for entry in after["metadata"]["managedFields"]}
    [operators] = set(owned) - {"argocd-controller"}
    assert set(owned[operators]["fieldsV1"]) == {"f:status"}
    assert owned[operators]["subresource"] == "status"


def test_the_operators_writes_on_a_synced_run_all_go_to_its_status(
    world: World, control_plane: Cluster
) -> None:
    if control_plane.audit_log is None:
        pytest.skip("the API server's audit log is not ours to read")
    git = Repository(world, "audited")
    git.sync()
    world.finish("audited-prepare-1", code=10, message="The token may not read acme/base.")
    world.wait_for_phase("audited", "Failed")
    git.act(rerunToken="2")
    world.finish("audited-prepare-2", message="Done.")
    world.run("audited-train-1")
    git.act(suspend=True)
    world.wait_for_end_of("audited-train-1")
    world.wait_for_phase("audited", "Suspended")
    git.act(suspend=False)
    world.wait_for_job("audited-train-2")
    to_success(world, "audited", "audited-train-2")
    world.delete("audited")
    world.make_claim("afterwards")

    log = control_plane.audit_log
    wait_for_write(log, world.namespace, "persistentvolumeclaims", "afterwards")
    writes = writes_on(log, world.namespace, "finetunejobs")
    of_operator = [entry for entry in writes if entry["user"]["username"] == USER]
    assert {entry["objectRef"].get("subresource") for entry in of_operator} == {"status"}
    # Neither does anybody on its behalf: beside it writes only who syncs.
    others = {entry["user"]["username"] for entry in writes} - {USER}
    assert len(others) == 1


def test_what_an_action_changes_is_no_drift_and_outlasts_a_sync(world: World) -> None:
    git = Repository(world, "clicked")
    git.sync()
    world.finish("clicked-prepare-1", code=10, message="The token may not read acme/base.")
    world.wait_for_phase("clicked", "Failed")
    git.act(rerunToken="retry-2026-01-31T12:00:00Z")
    world.run("clicked-prepare-2")
    git.act(suspend=True)
    world.wait_for_end_of("clicked-prepare-2")
    world.wait_for_phase("clicked", "Suspended")
    assert git.difference() == ""
    git.sync()
    assert git.live()["spec"]["suspend"] is True


def test_a_request_for_a_checkpoint_is_no_drift_and_outlasts_a_sync(
    world: World, gitops: GitOps
) -> None:
    git = Repository(world, "asked")
    git.sync()
    to_training(world, "asked")
    live = git.live()
    asked = gitops.lua((ACTIONS / "checkpoint" / "action.lua").read_text(), live)
    git.patch(metadata={"annotations": asked["metadata"]["annotations"]})
    assert git.difference() == ""
    git.sync()
    annotations = git.live()["metadata"]["annotations"]
    assert annotations == asked["metadata"]["annotations"]
    assert annotations.keys() - live["metadata"]["annotations"].keys() == {ANNOTATION_CHECKPOINT}


def test_what_belongs_to_a_run_is_no_resource_of_the_application(world: World) -> None:
    git = Repository(world, "owner")
    git.sync()
    world.wait_for_pod("owner-prepare-1")
    kinds = "jobs,configmaps,persistentvolumeclaims,services"
    about = ("-n", world.namespace, "-l", "app.kubernetes.io/managed-by=finetune-operator")
    children = json.loads(world.cluster.kubectl("get", kinds, *about, "-o", "json"))["items"]
    assert {child["kind"] for child in children} >= {"Job", "ConfigMap", "PersistentVolumeClaim"}
    for child in children:
        [owner] = child["metadata"]["ownerReferences"]
        assert (owner["name"], owner["controller"]) == ("owner", True)
        assert "app.kubernetes.io/instance" not in child["metadata"]["labels"]
        tracking = [key for key in child["metadata"].get("annotations", {}) if "argocd" in key]
        assert tracking == []


def test_kubectl_waits_for_success_and_for_failure(world: World) -> None:
    world.apply("good", upload=None)
    world.apply("bad")
    for job in ("good-prepare-1", "good-train-1"):
        world.finish(job, message="Done.")
    world.finish("bad-prepare-1", code=10, message="The token may not read acme/base.")
    wait = ("wait", "-n", world.namespace, "--timeout=30s")
    world.cluster.kubectl(*wait, "--for=condition=Failed", "ftj/bad")
    world.cluster.kubectl(*wait, "--for=jsonpath={.status.phase}=Succeeded", "ftj/good")
    world.cluster.kubectl(*wait, "--for=condition=Succeeded", "ftj/good")
    with pytest.raises(KubectlError, match="timed out"):
        world.cluster.kubectl(*wait[:-1], "--timeout=1s", "--for=condition=Succeeded", "ftj/bad")


def test_a_new_commit_is_not_taken_for_the_old_success(world: World) -> None:
    git = Repository(world, "newer", upload=None)
    del git.file["spec"]["upload"]
    git.sync()
    for job in ("newer-prepare-1", "newer-train-1"):
        world.finish(job, message="Done.")
    world.wait_for_phase("newer", "Succeeded")
    git.file["spec"]["runPolicy"] = {"stallSeconds": 7200}
    git.sync()
    until(lambda: world.status("newer")["observedGeneration"] == 2, "the new commit is seen")
    wait = ("wait", "-n", world.namespace, "--timeout=50s", "--for=condition=Succeeded")
    world.cluster.kubectl(*wait, "ftj/newer")
    assert git.difference() == ""


def test_retry_is_disabled_where_the_token_comes_from_git(world: World, gitops: GitOps) -> None:
    discovery = (ACTIONS / "discovery.lua").read_text()
    offered = {}
    for name, spec in (("free", {}), ("fixed", {"rerunToken": "1"})):
        git = Repository(world, name, **spec)
        git.sync()
        world.finish(f"{name}-prepare-1", code=10, message="The token may not read acme/base.")
        world.wait_for_phase(name, "Failed")
        offered[name] = gitops.lua(discovery, git.live())["retry"]["disabled"]
    assert offered == {"free": False, "fixed": True}
