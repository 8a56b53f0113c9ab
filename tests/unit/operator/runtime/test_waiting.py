from __future__ import annotations

from typing import Any

import pytest

from finetune_operator.core.model import Waiting
from finetune_operator.runtime.waiting import from_events, from_pods
from unit.operator.runtime.manifests import pod

UNSCHEDULABLE = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "Unschedulable",
    "message": "0/1 nodes are available",
}


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
            "the image cannot be pulled",
            [pod("Pending", waiting={"reason": "ImagePullBackOff", "message": "not found"})],
            Waiting("ImagePullBackOff", "not found"),
        ),
        (
            "one of two pods is stuck",
            [
                pod("Running", exit_code=None),
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


def test_the_latest_warning_tells_what_no_status_does() -> None:
    def event(kind: str, at: str, message: str) -> dict[str, Any]:
        return {
            "metadata": {},
            "type": kind,
            "reason": "R",
            "message": message,
            "lastTimestamp": at,
        }

    events = [
        event("Warning", "2026-01-31T12:00:05Z", 'secret "hf-write" not found'),
        event("Warning", "2026-01-31T12:00:01Z", "older"),
        event("Normal", "2026-01-31T12:00:09Z", "pulled"),
    ]
    assert from_events(events) == Waiting("R", 'secret "hf-write" not found')
    assert from_events(events[2:]) is None
