"""What a changed `spec.rerunToken` means: go on, start over, renew what runs, or just a note.

The token in status always follows the one in the spec, also when that is removed: so a token that
comes back is a new one, as the CRD's rules take it.
"""

from __future__ import annotations

from enum import Enum, auto

from finetune_operator.api.resource import FineTuneJob
from finetune_operator.api.status import Status
from finetune_operator.core import stages
from finetune_operator.core.model import Plan, Settings
from finetune_operator.core.naming import claim_of
from finetune_operator.core.sameness import first_changed
from finetune_operator.vocabulary import Phase, Stage, StageState


class Rerun(Enum):
    """What to do. RENEW: a Job that runs with other settings than the spec's makes way.

    With GO_ON and RENEW stages may begin again, if only what they and those after them are told has
    changed (sameness.py).
    """

    NOTHING = auto()
    NOTE = auto()
    RENEW = auto()
    GO_ON = auto()
    START_OVER = auto()


def verdict(
    resource: FineTuneJob, pinned: Plan | None, settings: Settings, *, claim_lost: bool = False
) -> Rerun:
    """What the token asks for, in the state that the run is in.

    `pinned` is None if it is lost; with the claim everything that was made is lost.
    """
    status, token = resource.status, resource.spec.rerun_token
    if token == status.rerun_token:
        return Rerun.NOTHING
    if token is None:
        return Rerun.NOTE
    if pinned is None or claim_lost or not _same_place(resource, pinned):
        return Rerun.START_OVER
    changed = first_changed(resource, pinned, settings)
    if changed is Stage.PREPARE:
        return Rerun.START_OVER
    if status.phase is Phase.SUCCEEDED:
        return Rerun.START_OVER if changed is None else Rerun.GO_ON
    return Rerun.GO_ON if status.phase is Phase.FAILED else Rerun.RENEW


def reopened(status: Status, token: str | None) -> Status:
    """A run that had ended as it goes on: from its first stage that has not succeeded, with a fresh
    budget.
    """
    entry = stages.current(status)
    if entry is not None:
        status = stages.changed(
            status,
            entry.name,
            state=StageState.PENDING,
            failures=0,
            out_of_memory=0,
            completion_time=None,
            message=None,
        )
    return status.model_copy(
        update={"rerun_token": token, "completion_time": None, "phase": None, "message": None}
    )


def _same_place(resource: FineTuneJob, pinned: Plan) -> bool:
    """Whether it would run in the same image, on the same claim."""
    spec = resource.spec
    # A newer operator brings a newer default image; that alone must not discard what is trained.
    same_image = spec.trainer.image in (None, pinned.trainer_image)
    artifacts = resource.status.artifacts
    used = artifacts.claim_name if artifacts else None
    return same_image and used in (
        None,
        claim_of(resource.metadata.name, spec.storage.claim_name),
    )
