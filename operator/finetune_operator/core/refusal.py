"""What follows when the API server refused an action, or a name is taken: wait, or fail the run."""

from __future__ import annotations

from finetune_operator.api.resource import FineTuneJob
from finetune_operator.api.status import Status
from finetune_operator.core import stages
from finetune_operator.core.conditions import Situation
from finetune_operator.core.model import Refusal
from finetune_operator.core.remedy import with_remedy
from finetune_operator.core.text import sentence
from finetune_operator.vocabulary import PHASE_OF_STAGE, Phase, StageState


def failed(resource: FineTuneJob, status: Status, refusal: Refusal) -> tuple[Status, Situation]:
    """The run has failed: the same action would be refused again."""
    # The token has been acted on: only another one asks for another try.
    message = with_remedy(refusal.message)
    entry = stages.current(status)
    if entry is not None:
        status = stages.changed(status, entry.name, state=StageState.FAILED, message=message)
    status = status.model_copy(update={"rerun_token": resource.spec.rerun_token})
    return status, Situation(Phase.FAILED, str(refusal.reason), message)


def waits(status: Status, refusal: Refusal, *, starts: bool) -> tuple[Status, Situation]:
    """The run waits for someone to change what stands in the way.

    `starts`: what waits is the start, so the run stays what it was before.
    """
    entry = stages.current(status)
    message = sentence(refusal.message)
    if starts or entry is None:
        return status, Situation(status.phase or Phase.PENDING, str(refusal.reason), message)
    status = stages.changed(status, entry.name, message=message)
    return status, Situation(PHASE_OF_STAGE[entry.name], str(refusal.reason), message)
