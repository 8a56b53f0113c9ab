"""The pod that reads a workspace: the run's own, with nothing but the volume. That one is made,
read and deleted is asked of a real API server and a real node.
"""

from __future__ import annotations

from typing import Any

from finetune_cli.workspace import reader, template
from unit.cli.examples import training
from unit.operator.build.test_jobs import TOKENS, built

Json = dict[str, Any]
SCHEDULING = {"nodeSelector": {"pool": "gpu"}, "tolerations": [{"operator": "Exists"}]}


def made(stage: str = "prepare", **changes: Any) -> Json:
    return reader(built(stage, **changes), training(), "report.html")


def test_it_has_the_workspace_and_nothing_else_of_the_stage() -> None:
    pod = made(**TOKENS)["spec"]
    assert [volume["name"] for volume in pod["volumes"]] == ["workspace"]
    [container] = pod["containers"]
    assert container["command"] == ["cat", "/workspace/report.html"]
    assert container["volumeMounts"] == [
        {"name": "workspace", "mountPath": "/workspace", "readOnly": True}
    ]
    assert "env" not in container


def test_it_goes_where_the_run_goes_and_may_as_little() -> None:
    pod, stage = made(scheduling=SCHEDULING)["spec"], built("prepare", scheduling=SCHEDULING)
    theirs = stage["spec"]["template"]["spec"]
    for key in ("nodeSelector", "tolerations", "securityContext", "automountServiceAccountToken"):
        assert pod[key] == theirs[key]
    assert pod["containers"][0]["securityContext"] == theirs["containers"][0]["securityContext"]


def test_it_asks_for_no_gpu_even_if_only_a_training_job_is_left() -> None:
    resources = {"nodes": 2, "gpusPerNode": 8}
    pod = made("train", resources=resources, scheduling={"runtimeClassName": "nvidia"})["spec"]
    assert "limits" not in pod["containers"][0]["resources"]
    assert not {"subdomain", "runtimeClassName"} & pod.keys()


def test_it_is_none_of_the_runs_stages_and_ends_by_itself() -> None:
    pod = made()
    assert pod["metadata"]["labels"] == {"app.kubernetes.io/managed-by": "kubectl-finetune"}
    assert pod["spec"]["activeDeadlineSeconds"] > 0
    [owner] = pod["metadata"]["ownerReferences"]
    assert owner["kind"] == "FineTuneJob"
    assert "controller" not in owner


def test_it_is_made_like_the_newest_pod_that_holds_no_gpu() -> None:
    def job(stage: str, attempt: int, created: str) -> Json:
        found = built(stage, attempt)
        found["metadata"]["creationTimestamp"] = created
        return found

    old, new = job("prepare", 1, "2026-01-31T12:00:00Z"), job("prepare", 2, "2026-01-31T13:00:00Z")
    assert template([old, new, job("train", 1, "2026-01-31T14:00:00Z")]) is new
    assert template([job("train", 1, "2026-01-31T14:00:00Z")]) is not None
    assert template([]) is None


def test_a_forged_job_lends_it_no_rights() -> None:
    """The pod is made with the rights of who asks for the report, and anybody may label a Job."""
    job = built("prepare")
    pod = job["spec"]["template"]["spec"]
    pod |= {
        "hostNetwork": True,
        "hostPID": True,
        "serviceAccountName": "admin",
        "automountServiceAccountToken": True,
        "initContainers": [{"name": "first", "image": "evil"}],
        "securityContext": {"runAsUser": 0, "sysctls": [{"name": "a", "value": "b"}]},
    }
    pod["containers"][0]["securityContext"] = {"privileged": True}
    for volume in pod["volumes"]:
        if volume["name"] == "workspace":
            volume["hostPath"] = {"path": "/"}
    spec = reader(job, training(), "report.html")["spec"]
    assert spec.keys().isdisjoint({"hostNetwork", "hostPID", "serviceAccountName"})
    assert "initContainers" not in spec
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"] == {
        "runAsUser": 0,  # refused by the next
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert spec["containers"][0]["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    assert [set(volume) for volume in spec["volumes"]] == [{"name", "persistentVolumeClaim"}]
