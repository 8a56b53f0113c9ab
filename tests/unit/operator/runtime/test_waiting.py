from __future__ import annotations

from typing import Any

import pytest

from finetune_operator.core.model import Waiting
from finetune_operator.core.waiting import STOPPING
from finetune_operator.runtime.waiting import (
    from_claim,
    from_events,
    from_pods,
    from_stopping,
    is_about_claim,
    scheduled_at,
)
from unit.operator.runtime.manifests import pod

SCHEDULED = {
    "type": "PodScheduled",
    "status": "True",
    "lastTransitionTime": "2026-01-31T11:00:00Z",
}
UNSCHEDULABLE = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "Unschedulable",
    "message": "0/1 nodes are available",
}
SAID_IN_FULL = (
    "0/1 nodes are available: 1 Insufficient nvidia.com/gpu. no new claims to deallocate, "
    "preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."
)


@pytest.mark.parametrize(
    ("name", "pods", "found"),
    [
        ("no pods, nothing to tell", [], None),
        (
            "no node fits",
            [pod("Pending", conditions=(UNSCHEDULABLE,))],
            Waiting("Unschedulable", "0/1 nodes are available"),
        ),
        (
            "no node fits, with what the scheduler adds to that",
            [pod("Pending", conditions=(UNSCHEDULABLE | {"message": SAID_IN_FULL},))],
            Waiting("Unschedulable", "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."),
        ),
        (
            "the image cannot be pulled",
            [
                pod(
                    "Pending",
                    waiting={"reason": "ImagePullBackOff", "message": "not found"},
                    conditions=(SCHEDULED,),
                )
            ],
            Waiting("ImagePullBackOff", "not found", "2026-01-31T11:00:00Z"),
        ),
        (
            "the second of two pods is stuck",
            [
                pod("Pending", waiting={"reason": "ContainerCreating"}),
                pod("Pending", waiting={"reason": "CreateContainerConfigError"}),
            ],
            Waiting("CreateContainerConfigError", ""),
        ),
        (
            "what passes by itself is not told",
            [pod("Pending", waiting={"reason": "ContainerCreating"})],
            None,
        ),
    ],
)
def test_from_pods(name: str, pods: list[dict[str, Any]], found: Waiting | None) -> None:
    assert from_pods(pods) == found, name


def event(kind: str, at: str, message: str) -> dict[str, Any]:
    return {
        "metadata": {},
        "type": kind,
        "reason": "R",
        "message": message,
        "lastTimestamp": at,
    }


def test_the_latest_warning_tells_what_no_status_does() -> None:
    events = [
        event("Warning", "2026-01-31T12:00:05Z", 'secret "hf-write" not found'),
        event("Warning", "2026-01-31T12:00:01Z", "older"),
        event("Normal", "2026-01-31T12:00:09Z", "pulled"),
    ]
    assert from_events(events) == Waiting("R", 'secret "hf-write" not found')
    assert from_events(events[2:]) is None


@pytest.mark.parametrize(
    "message",
    [
        'MountVolume.SetUp failed for volume "dataset-source" : configmap "words" not found',
        'MountVolume.SetUp failed for volume "dataset-source" : references non-existent config key',
    ],
)
def test_a_config_map_that_is_missing_is_told_as_a_secret_is(message: str) -> None:
    found = from_events([event("Warning", "2026-01-31T12:00:05Z", message)])
    assert found is not None
    assert found.message == message
    assert not is_about_claim(found)


def test_what_was_said_before_the_pod_had_its_node_is_over() -> None:
    scheduled = pod("Pending", conditions=(SCHEDULED,))
    since = scheduled_at(scheduled)
    assert since == "2026-01-31T11:00:00Z"
    search = event("Warning", "2026-01-31T10:59:59.123456Z", "0/1 nodes are available")
    assert from_events([search], since=since) is None
    mount = event("Warning", "2026-01-31T11:00:00Z", 'secret "x" not found')
    assert from_events([search, mount], since=since) == Waiting("R", 'secret "x" not found', since)
    assert scheduled_at(pod("Pending", conditions=(UNSCHEDULABLE,))) is None


def test_of_pods_that_stop_the_one_that_is_longest_in_it_is_named() -> None:
    def stopping(name: str, at: str) -> dict[str, Any]:
        found = pod("Running", name=name)
        found["metadata"]["deletionTimestamp"] = at
        return found

    pods = [
        pod("Running", name="a"),
        stopping("b", "2026-01-31T12:00:05Z"),
        stopping("c", "2026-01-31T12:00:01Z"),
    ]
    expected = Waiting(STOPPING, "pod c on node node-of-c", "2026-01-31T12:00:01Z")
    assert from_stopping(pods) == expected
    assert from_stopping(pods[:1]) is None


def test_only_the_claim_knows_why_there_is_no_volume() -> None:
    pending: dict[str, Any] = {"status": {"phase": "Pending"}}
    told = Waiting("ProvisioningFailed", "no space")
    found = from_claim("ws", pending, told)
    assert found == Waiting(
        "ProvisioningFailed", "PersistentVolumeClaim ws has no volume: no space"
    )
    assert from_claim("ws", pending, None) is None
    missing, lost = (
        from_claim("ws", None, None),
        from_claim("ws", {"status": {"phase": "Lost"}}, None),
    )
    assert missing is not None
    assert missing.reason == "ClaimMissing"
    assert lost is not None
    assert lost.reason == "ClaimLost"
    assert is_about_claim(Waiting("", "pod has unbound immediate PersistentVolumeClaims."))
    assert not is_about_claim(Waiting("", "Insufficient nvidia.com/gpu"))
