"""Names of everything that a run owns: the same run, stage and attempt always give the same name.

A name is at most 63 characters because metadata.name is at most `NAME_LIMIT` (a rule of the CRD).
The longest is the host name of a training pod, `NAME-train-9999-999`. Labels are build/'s.
"""

from __future__ import annotations

from finetune_operator.vocabulary import GROUP, Stage

ATTEMPT_LIMIT = 9999
"""The last attempt number whose host names fit."""


def job_name(run: str, stage: Stage, attempt: int) -> str:
    """The Job of one attempt of a stage."""
    return f"{run}-{stage}-{attempt}"


def plan_name(run: str, plan_hash: str) -> str:
    """The ConfigMap that pins a plan."""
    return f"{run}-plan-{plan_hash[:8]}"


def workspace_name(run: str) -> str:
    """The claim that all stages share, when the operator makes it."""
    return f"{run}-workspace"


def service_name(run: str) -> str:
    """The headless Service of the training pods: one for all attempts."""
    return f"{run}-{Stage.TRAIN}"


def leader_host(run: str, attempt: int, nodes: int) -> str:
    """The host name of training pod 0, as its peers and itself resolve it.

    A single pod finds its own name in its hosts file, so one node needs no Service.
    """
    host = f"{job_name(run, Stage.TRAIN, attempt)}-0"
    return host if nodes == 1 else f"{host}.{service_name(run)}"


def progress_audience(namespace: str, run: str) -> str:
    """The audience of the tokens that may report the progress of this run."""
    return f"{GROUP}/{namespace}/{run}"


def progress_path(namespace: str, run: str) -> str:
    """Where reports of this run go, below the progress endpoint's base URL."""
    return f"/apis/trainer.kubeflow.org/v1alpha1/namespaces/{namespace}/trainjobs/{run}/status"


def claim_of(run: str, claim_name: str | None) -> str:
    """The workspace's claim: the one that the spec names, else the operator's."""
    return claim_name or workspace_name(run)
