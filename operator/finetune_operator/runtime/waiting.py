"""Pods of a Job that does not run yet, or does not stop → what it waits for. Pure.

Reasons that pass by themselves within seconds (ContainerCreating, Pulling) are none. What a wait
means for the run is decided in core.
"""

from __future__ import annotations

import re
from typing import Any

from finetune_operator.core.model import Waiting
from finetune_operator.core.waiting import STOPPING
from finetune_operator.vocabulary import WaitReason

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

# What the scheduler adds: that pushing other pods out would not help either.
_BEYOND_THE_OBSTACLE = re.compile(r"\s*(no new claims to deallocate|preemption: ).*", re.DOTALL)


def from_pods(pods: list[Json]) -> Waiting | None:
    """The first obstacle that a pod's own status names."""
    for pod in pods:
        found = _unschedulable(pod) or _blocked(pod)
        if found is not None:
            return found
    return None


def from_events(events: list[Json], *, since: str | None = None) -> Waiting | None:
    """The latest warning about an object whose status says nothing: FailedMount, FailedCreate.

    A missing Secret or an exceeded quota is told nowhere else. What was said before `since` is
    over: a pod that has found its node still has the events of its search.
    """
    warnings = [
        event
        for event in events
        if event.get("type") == "Warning" and (since is None or _moment(event) >= since)
    ]
    if not warnings:
        return None
    latest = max(warnings, key=_moment)
    return Waiting(latest.get("reason", ""), latest.get("message", "").strip(), since)


def is_about_claim(found: Waiting) -> bool:
    """Whether a volume is missing, of which only the claim can say why."""
    return "PersistentVolumeClaim" in found.message


def from_claim(name: str, claim: Json | None, told: Waiting | None) -> Waiting | None:
    """What keeps the workspace's claim from being bound; `told` is the latest warning about it.

    None if it only waits for the pod to find its node, or for a volume that is being made.
    """
    if claim is None:
        return Waiting(WaitReason.CLAIM_MISSING, f"there is no PersistentVolumeClaim {name}")
    if claim.get("status", {}).get("phase") == "Lost":
        return Waiting(WaitReason.CLAIM_LOST, f"the volume of PersistentVolumeClaim {name} is lost")
    if told is None:
        return None
    return Waiting(told.reason, f"PersistentVolumeClaim {name} has no volume: {told.message}")


def from_stopping(pods: list[Json]) -> Waiting | None:
    """The pod that is the longest in stopping; `since` is when it should have been gone."""
    going = [pod for pod in pods if "deletionTimestamp" in pod["metadata"]]
    if not going:
        return None
    pod = min(going, key=lambda pod: str(pod["metadata"]["deletionTimestamp"]))
    node = pod.get("spec", {}).get("nodeName", "")
    name = pod["metadata"]["name"]
    told = f"pod {name} on node {node}" if node else f"pod {name}"
    return Waiting(STOPPING, told, pod["metadata"]["deletionTimestamp"])


def scheduled_at(pod: Json) -> str | None:
    """When the pod has found its node; None if it has not."""
    for condition in pod.get("status", {}).get("conditions", ()):
        if condition["type"] == "PodScheduled" and condition["status"] == "True":
            return str(condition["lastTransitionTime"])
    return None


def _unschedulable(pod: Json) -> Waiting | None:
    for condition in pod.get("status", {}).get("conditions", ()):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            message = _BEYOND_THE_OBSTACLE.sub("", condition.get("message", ""))
            return Waiting(condition.get("reason", ""), message)
    return None


def _blocked(pod: Json) -> Waiting | None:
    for container in pod.get("status", {}).get("containerStatuses", ()):
        waiting = container.get("state", {}).get("waiting") or {}
        if waiting.get("reason") in BLOCKING:
            return Waiting(waiting["reason"], waiting.get("message", ""), scheduled_at(pod))
    return None


def _moment(event: Json) -> str:
    return str(
        (event.get("series") or {}).get("lastObservedTime")
        or event.get("lastTimestamp")
        or event.get("eventTime")
        or event["metadata"].get("creationTimestamp")
        or ""
    )
