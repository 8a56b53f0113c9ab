"""GPUs that only the scheduler believes in: an extended resource written onto the node.

Pods that ask for them are placed as if they were there; nothing is mounted into the pods.
"""

from __future__ import annotations

import json
from typing import Any

RESOURCE = "nvidia.com/gpu"
COUNT = 8


def status_patch() -> dict[str, Any]:
    """A merge patch of a node's status."""
    amount = {RESOURCE: str(COUNT)}
    return {"status": {"capacity": amount, "allocatable": amount}}


def status_patch_text() -> str:
    return json.dumps(status_patch())


def missing(node: dict[str, Any]) -> bool:
    """Whether the node lacks them, as after a restart of its kubelet."""
    status = node.get("status", {})
    wanted = str(COUNT)
    return any(status.get(part, {}).get(RESOURCE) != wanted for part in ("capacity", "allocatable"))
