"""A file of a run's workspace, read through a pod that prints it and is deleted at once.

This needs the right to create pods. The pod is made like those of the run's own Jobs: their image,
their place, their restricted rights.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Mapping
from typing import Any

from finetune_cli.cluster import Cluster
from finetune_cli.errors import CliError, Exit
from finetune_cli.view import Run, dig
from finetune_operator.build.common import WORKSPACE, WORKSPACE_DIRECTORY
from finetune_operator.vocabulary import API_VERSION, KIND, LABEL_MANAGED_BY, LABEL_STAGE, Stage

Json = dict[str, Any]
REPORT = "report.html"
# What its last line must be, so that a log which was cut is not taken for the page.
_END = "</html>"
PATIENCE_SECONDS, PAUSE_SECONDS = 120.0, 0.5
# What the pod has of a Job's. Whoever may label a Job wrote it, and the pod is made with the rights
# of who asks for the report: nothing that gives it more than a stage has is taken over.
_PLACE = (
    "affinity",
    "imagePullSecrets",
    "nodeSelector",
    "priorityClassName",
    "schedulerName",
    "tolerations",
)
_IDS = ("runAsUser", "runAsGroup", "fsGroup", "fsGroupChangePolicy")
_RESTRICTED: Json = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}


def report(cluster: Cluster, run: Run) -> str:
    """The run's report.html, whole, with what of the data it shows.

    Raises:
        CliError: there is none yet, or no pod can read it.
    """
    job = template(cluster.jobs(run.name))
    if job is None:
        raise CliError(
            f"FineTuneJob {run.name} has no Jobs, it is {run.phase}: there is no report.",
            Exit.NOT_FOUND,
        )
    name = str(cluster.create_pod(reader(job, run, REPORT))["metadata"]["name"])
    try:
        pod = _ended(cluster, name)
        text = "\n".join(cluster.log_lines(name, {})) + "\n"
    finally:
        # It ends by itself, and goes with the run.
        with contextlib.suppress(CliError):
            cluster.delete_pod(name)
    if dig(pod, "status.phase") == "Succeeded":
        if text.rstrip().endswith(_END):
            return text
        raise CliError(f"The report of {run.name} has come without its end: try again.")
    if "No such file" in text:
        raise CliError(
            f"There is no report of {run.name} yet: one is written when a stage ends.",
            Exit.NOT_FOUND,
        )
    said = text.strip() or _last_words(pod) or "the pod that was to print it said nothing"
    raise CliError(
        f"The report in the workspace of {run.name} cannot be read: "
        f"{said.splitlines()[-1][:200].rstrip('.')}."
    )


def template(jobs: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Of a run's Jobs the one to make a reader like: prepare's newest, which asks for no GPU, else
    the newest of all.
    """

    def rank(job: Mapping[str, Any]) -> tuple[bool, str]:
        stage = dig(job, "metadata.labels", {}).get(LABEL_STAGE)
        return stage == Stage.PREPARE, str(dig(job, "metadata.creationTimestamp"))

    return max(jobs, key=rank, default=None)


def reader(job: Mapping[str, Any], run: Run, file: str) -> Json:
    """A pod that prints a file of the workspace: the Job's, with nothing but the workspace."""
    theirs = job["spec"]["template"]["spec"]
    [first] = theirs["containers"]
    container: Json = {
        "name": "read",
        "image": first["image"],
        "command": ["cat", f"{WORKSPACE_DIRECTORY}/{file}"],
        "volumeMounts": [{"name": WORKSPACE, "mountPath": WORKSPACE_DIRECTORY, "readOnly": True}],
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
        "securityContext": _RESTRICTED,
    }
    if "imagePullPolicy" in first:
        container["imagePullPolicy"] = first["imagePullPolicy"]
    ids = theirs.get("securityContext", {})
    pod: Json = {key: theirs[key] for key in _PLACE if key in theirs}
    pod |= {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            **{key: ids[key] for key in _IDS if key in ids},
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [_claim(volume) for volume in theirs["volumes"] if volume["name"] == WORKSPACE],
        "activeDeadlineSeconds": 2 * int(PATIENCE_SECONDS),
    }
    owner = {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "name": run.name,
        "uid": dig(run.raw, "metadata.uid"),
    }
    metadata = {
        "generateName": f"{run.name}-read-",
        # Not the run's label: this pod is none of its stages'.
        "labels": {LABEL_MANAGED_BY: "kubectl-finetune"},
        "ownerReferences": [owner],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod}


def _claim(volume: Mapping[str, Any]) -> Json:
    claim = str(dig(volume, "persistentVolumeClaim.claimName", ""))
    return {"name": WORKSPACE, "persistentVolumeClaim": {"claimName": claim}}


def _ended(cluster: Cluster, name: str) -> Json:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        pod = cluster.pod(name)
        if dig(pod, "status.phase") in ("Succeeded", "Failed"):
            return pod
        if time.monotonic() > deadline:
            raise CliError(
                f"The pod that was to read the report did not start ({_waits_for(pod)}): try again "
                "when its volume and a node are free.",
                Exit.TIMEOUT,
            )
        time.sleep(PAUSE_SECONDS)


def _last_words(pod: Mapping[str, Any]) -> str:
    """Why the container could not run, where it is that: an image without cat, say."""
    statuses = dig(pod, "status.containerStatuses", [])
    words = [dig(status, "state.terminated.message") for status in statuses]
    return str(next(filter(None, words), dig(pod, "status.message", "")))


def _waits_for(pod: Mapping[str, Any]) -> str:
    for status in dig(pod, "status.containerStatuses", []):
        if reason := dig(status, "state.waiting.reason"):
            return f"{reason} {dig(status, 'state.waiting.message', '')}".strip()[:200]
    for condition in dig(pod, "status.conditions", []):
        if condition["type"] == "PodScheduled" and condition["status"] != "True":
            return str(condition.get("message", condition.get("reason")))[:200]
    return str(dig(pod, "status.phase", "nobody has looked at it"))
