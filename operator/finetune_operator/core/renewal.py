"""Must a Job make way for one with the spec's present settings? Not as a failure: by request.

Which settings these are stands in template.py; which Job comes next, in decide.py.
"""

from __future__ import annotations

from finetune_operator.api.resource import FineTuneJob
from finetune_operator.api.status import StageStatus, Status
from finetune_operator.core import stages
from finetune_operator.core.model import JobRecord, JobState
from finetune_operator.core.template import template_hash
from finetune_operator.vocabulary import StageState

_IDLE = frozenset({JobState.WAITING, JobState.SUSPENDED, JobState.DELETING})


def is_due(job: JobRecord, resource: FineTuneJob, *, asked: bool) -> bool:
    """Whether this live Job is to be replaced; `asked` by a new spec.rerunToken.

    Pods that work are disturbed only on request. A Job that has not begun cannot lose anything, and
    often waits for just this change. One that is being deleted was told so by an earlier look.
    """
    if job.template_hash == template_hash(resource, job.stage):
        return False
    return asked or job.state in _IDLE


def begun(status: Status, entry: StageStatus) -> Status:
    """The status of a run whose stage has been told to stop, to begin again as another Job."""
    return stages.changed(status, entry.name, state=StageState.PENDING, message=None)
