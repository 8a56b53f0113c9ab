"""Objects as watches and lists give them, short."""

from __future__ import annotations

from typing import Any

from finetune_operator.vocabulary import (
    ANNOTATION_PLAN_HASH,
    ANNOTATION_TEMPLATE_HASH,
    API_VERSION,
    KIND,
    LABEL_ATTEMPT,
    LABEL_MANAGED_BY,
    LABEL_RUN,
    LABEL_STAGE,
    MANAGER,
)
from unit.operator.builders import MINIMAL

Json = dict[str, Any]

NAMESPACE = "team-a"
KEY = (NAMESPACE, "demo")


def run(version: int = 1, uid: str = "run-1", name: str = "demo", **fields: Any) -> Json:
    """A FineTuneJob."""
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {
            "namespace": NAMESPACE,
            "name": name,
            "uid": uid,
            "resourceVersion": str(version),
            "managedFields": [{"manager": "kubectl"}],
        },
        "spec": MINIMAL,
        **fields,
    }


def job(
    version: int = 1,
    uid: str = "job-1",
    stage: str = "train",
    attempt: int = 1,
    owner: str = "run-1",
    status: Json | None = None,
    **metadata: Any,
) -> Json:
    """A stage Job of `run()`."""
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "namespace": NAMESPACE,
            "name": f"demo-{stage}-{attempt}",
            "uid": uid,
            "resourceVersion": str(version),
            "labels": {
                LABEL_MANAGED_BY: MANAGER,
                LABEL_RUN: "demo",
                LABEL_STAGE: stage,
                LABEL_ATTEMPT: str(attempt),
            },
            "annotations": {ANNOTATION_PLAN_HASH: "0123", ANNOTATION_TEMPLATE_HASH: "4567"},
            "ownerReferences": [
                {
                    "apiVersion": API_VERSION,
                    "kind": KIND,
                    "name": "demo",
                    "uid": owner,
                    "controller": True,
                }
            ],
            **metadata,
        },
        "spec": {},
        "status": status or {},
    }


def condition(kind: str, **fields: Any) -> Json:
    """A condition that is true."""
    return {"type": kind, "status": "True", **fields}


def pod(
    phase: str = "Failed",
    exit_code: int | None = None,
    message: str = "",
    finished: str = "2026-01-31T12:00:00Z",
    index: int | None = None,
    name: str = "pod",
    conditions: tuple[Json, ...] = (),
    waiting: Json | None = None,
    **status: Any,
) -> Json:
    """A pod of a stage Job."""
    state: Json = {}
    if waiting is not None:
        state = {"waiting": waiting}
    if exit_code is not None:
        state = {
            "terminated": {
                "exitCode": exit_code,
                "reason": "Completed" if exit_code == 0 else "Error",
                "message": message,
                "finishedAt": finished,
            }
        }
    annotations = {} if index is None else {"batch.kubernetes.io/job-completion-index": str(index)}
    return {
        "metadata": {"name": name, "uid": f"uid-{name}", "annotations": annotations},
        "spec": {"nodeName": f"node-of-{name}"},
        "status": {
            "phase": phase,
            "conditions": list(conditions),
            "containerStatuses": [{"name": "stage", "state": state}] if state else [],
            **status,
        },
    }
