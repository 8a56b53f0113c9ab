"""Whose is an object that has the name we need? Ours, somebody else's, or soon nobody's. Pure.

What follows from a refusal is decided in core.
"""

from __future__ import annotations

from typing import Any

from finetune_operator.api.resource import FineTuneJob
from finetune_operator.core.model import Refusal
from finetune_operator.vocabulary import (
    KIND,
    LABEL_MANAGED_BY,
    LABEL_RUN,
    MANAGER,
    RefusalReason,
)

Json = dict[str, Any]


def obstacle(found: Json, wanted: Json, resource: FineTuneJob) -> Refusal | None:
    """Why the object found cannot be taken for the wanted one; None if it can."""
    what = f"{wanted['kind']} {wanted['metadata']['name']}"
    # The garbage collector takes its time after `kubectl delete`, and a claim in use even longer.
    former = " of the former FineTuneJob" if _is_of_the_former(found, resource) else ""
    if former or "deletionTimestamp" in found["metadata"]:
        message = f"{what}{former} is still being deleted."
        return Refusal(RefusalReason.STILL_DELETING, message, final=False, passes=True)
    if _is_ours(found, wanted, resource):
        return None
    return Refusal(
        RefusalReason.NAME_COLLISION,
        f"{what} exists and does not belong to this FineTuneJob: delete or rename it, then change "
        "spec.rerunToken, or give the FineTuneJob another name.",
        final=True,
    )


def _is_of_the_former(found: Json, resource: FineTuneJob) -> bool:
    return any(
        owner.get("controller")
        and (owner["kind"], owner["name"]) == (KIND, resource.metadata.name)
        and owner["uid"] != resource.metadata.uid
        for owner in found["metadata"].get("ownerReferences", ())
    )


def _is_ours(found: Json, wanted: Json, resource: FineTuneJob) -> bool:
    owners = found["metadata"].get("ownerReferences", ())
    if wanted["metadata"].get("ownerReferences"):
        return any(owner["uid"] == resource.metadata.uid for owner in owners)
    # A retained claim has no owner on purpose; its labels tell whose it is.
    labels = found["metadata"].get("labels", {})
    return (
        not any(owner.get("controller") for owner in owners)
        and labels.get(LABEL_MANAGED_BY) == MANAGER
        and labels.get(LABEL_RUN) == resource.metadata.name
    )
