"""Must a Job make way for one with the spec's present settings? Not as a failure: by request.

Which settings these are stands in template.py; which Job comes next, in decide.py.
"""

from __future__ import annotations

from finetune_operator.api.resource import FineTuneJob
from finetune_operator.core.model import JobRecord, JobState
from finetune_operator.core.template import template_hash

_IDLE = frozenset({JobState.WAITING, JobState.SUSPENDED, JobState.DELETING})


def is_due(job: JobRecord, resource: FineTuneJob, *, asked: bool) -> bool:
    """Whether this live Job is to be replaced; `asked` by a new spec.rerunToken.

    Pods that work are disturbed only on request. A Job that has not begun cannot lose anything, and
    often waits for just this change. One that is being deleted was told so by an earlier look.
    """
    may_go = asked or job.state in _IDLE
    return may_go and job.template_hash != template_hash(resource, job.stage)
