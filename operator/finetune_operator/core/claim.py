"""Does a claim that exists already serve as the workspace that the spec asks for now?

A claim can only grow; all else of it is fixed when it is made. The claim that the spec asks for is
build/workspace.py's; whose the existing one is, is not known here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from finetune_operator.core.quantity import parse_quantity

SHARED = "ReadWriteMany"
REMEDY = "or delete the claim, with all that the run has made so far; then change spec.rerunToken."


@dataclass(frozen=True, slots=True)
class Fit:
    """`grows_to`: the size that it must be given first. `obstacle`: why it cannot serve at all."""

    grows_to: str | None = None
    obstacle: str | None = None


def fit(name: str, wanted: Mapping[str, Any], found: Mapping[str, Any]) -> Fit:
    """What stands between the `spec` of this claim and the wanted one."""
    asked, given = wanted.get("storageClassName"), found.get("storageClassName")
    if asked is not None and asked != given:
        return Fit(
            obstacle=f"PersistentVolumeClaim {name} is of storage class {given or 'none'} and "
            f"cannot become {asked}: set spec.storage.storageClassName back, {REMEDY}"
        )
    if SHARED in wanted["accessModes"] and SHARED not in found["accessModes"]:
        modes = ", ".join(found["accessModes"])
        return Fit(
            obstacle=f"PersistentVolumeClaim {name} is {modes} and cannot become {SHARED}: set "
            f"spec.resources.nodes to 1 and spec.storage.accessMode back, {REMEDY}"
        )
    size, room = _size(wanted), _size(found)
    return Fit(grows_to=size) if parse_quantity(size) > parse_quantity(room) else Fit()


def unshared(name: str, nodes: int, found: Mapping[str, Any]) -> str | None:
    """Why a claim of the user's with this `spec` cannot serve so many nodes; None if it can."""
    if nodes == 1 or SHARED in found["accessModes"]:
        return None
    return (
        f"spec.storage.claimName is {name}, which is {', '.join(found['accessModes'])}, but "
        f"spec.resources.nodes is {nodes}: name a claim that is {SHARED}, or set nodes to 1; "
        "change spec.rerunToken with it."
    )


def cannot_grow(name: str, grows_to: str, said: str) -> str:
    """What to tell when the API server does not let the claim grow."""
    return (
        f"PersistentVolumeClaim {name} cannot grow to {grows_to}: set spec.storage.size back, or "
        f"let its storage class allow volume expansion, {REMEDY} The API server said: {said}"
    )


def _size(claim: Mapping[str, Any]) -> str:
    return str(claim["resources"]["requests"]["storage"])
