"""Pods of a Job that does not run yet → what it waits for. Pure.

Reasons that pass by themselves within seconds (ContainerCreating, Pulling) are none.
"""

from __future__ import annotations

from typing import Any

from finetune_operator.core.model import Waiting

Json = dict[str, Any]

BLOCKING = {
    "CreateContainerConfigError",
    "CreateContainerError",
    "ErrImageNeverPull",
    "ErrImagePull",
    "ImageInspectError",
    "ImagePullBackOff",
    "InvalidImageName",
    "RunContainerError",
}


def from_pods(pods: list[Json]) -> Waiting | None:
    """The first obstacle that a pod's own status names."""
    for pod in pods:
        found = _unschedulable(pod) or _blocked(pod)
        if found is not None:
            return found
    return None


def from_events(events: list[Json]) -> Waiting | None:
    """The latest warning about a pod or a Job whose status says nothing: FailedMount, FailedCreate.

    A missing Secret or an exceeded quota is told nowhere else.
    """
    warnings = [event for event in events if event.get("type") == "Warning"]
    if not warnings:
        return None
    latest = max(warnings, key=_moment)
    return Waiting(latest.get("reason", ""), latest.get("message", "").strip())


def _unschedulable(pod: Json) -> Waiting | None:
    for condition in pod.get("status", {}).get("conditions", ()):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return Waiting(condition.get("reason", ""), condition.get("message", ""))
    return None


def _blocked(pod: Json) -> Waiting | None:
    for container in pod.get("status", {}).get("containerStatuses", ()):
        waiting = container.get("state", {}).get("waiting") or {}
        if waiting.get("reason") in BLOCKING:
            return Waiting(waiting["reason"], waiting.get("message", ""))
    return None


def _moment(event: Json) -> str:
    return str(
        (event.get("series") or {}).get("lastObservedTime")
        or event.get("lastTimestamp")
        or event.get("eventTime")
        or event["metadata"].get("creationTimestamp")
        or ""
    )
