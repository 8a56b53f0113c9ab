"""Pods of a Job that ended → what explains the end. Pure; core judges the failure."""

from __future__ import annotations

from typing import Any

from finetune_operator.core.model import Termination
from finetune_operator.core.reporting import termination_document

Json = dict[str, Any]

TAIL = 500


def explain(pods: list[Json], *, succeeded: bool) -> Termination:
    """What the pod left that tells most: of a success pod 0, of a failure the first that failed."""
    if not pods:
        return Termination()
    return _left_by(_first(pods) if succeeded else min(pods, key=_failed_first))


def _first(pods: list[Json]) -> Json:
    done = [pod for pod in pods if pod.get("status", {}).get("phase") == "Succeeded"]
    return min(done or pods, key=_index)


def _failed_first(pod: Json) -> tuple[bool, str, bool]:
    """Order of failures: the others often fail only because one did.

    Times have a resolution of a second; of two in the same second the one that wrote why counts.
    """
    terminated = _terminated(pod)
    failed = pod.get("status", {}).get("phase") == "Failed" or bool(terminated.get("exitCode"))
    moment = terminated.get("finishedAt") or _disrupted(pod).get("lastTransitionTime") or "~"
    return (not failed, moment, not _document(terminated))


def _left_by(pod: Json) -> Termination:
    status, terminated, disrupted = pod.get("status", {}), _terminated(pod), _disrupted(pod)
    document = _document(terminated)
    words = status.get("message") or disrupted.get("message") or ""
    if not words and not document:
        # A container that died before it could write its result has perhaps said something else.
        words = str(terminated.get("message") or "")[-TAIL:].strip()
    return Termination(
        exit_code=terminated.get("exitCode"),
        document=document,
        node=pod.get("spec", {}).get("nodeName"),
        started_at=terminated.get("startedAt"),
        container_reason=terminated.get("reason", ""),
        pod_reason=status.get("reason") or disrupted.get("reason") or "",
        pod_message=words,
        disrupted=bool(disrupted),
    )


def _terminated(pod: Json) -> Json:
    for container in pod.get("status", {}).get("containerStatuses", ()):
        terminated = container.get("state", {}).get("terminated")
        if terminated:
            return dict(terminated)
    return {}


def _disrupted(pod: Json) -> Json:
    for condition in pod.get("status", {}).get("conditions", ()):
        if condition["type"] == "DisruptionTarget" and condition["status"] == "True":
            return dict(condition)
    return {}


def _document(terminated: Json) -> Json:
    return termination_document(terminated.get("message") or "")


def _index(pod: Json) -> int:
    annotations = pod["metadata"].get("annotations", {})
    return int(annotations.get("batch.kubernetes.io/job-completion-index", 0))
