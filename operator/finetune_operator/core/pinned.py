"""On which plan a run stands: the pinned one, a new one, or none yet.

Once started, only the pinned plan counts, whatever the spec has become, unless a rerun is asked for
(rerun.py).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from datetime import datetime

from finetune_operator.api.resource import FineTuneJob
from finetune_operator.api.status import Status
from finetune_operator.core import limits, rerun
from finetune_operator.core.model import (
    Action,
    CheckClaim,
    CreateClaim,
    CreatePlan,
    Observed,
    Plan,
    Refusal,
    Settings,
)
from finetune_operator.core.naming import plan_name
from finetune_operator.core.plan import continued, make_plan
from finetune_operator.core.rerun import Rerun
from finetune_operator.core.sameness import first_changed
from finetune_operator.core.status import FINAL, begun, begun_again
from finetune_operator.vocabulary import RefusalReason


@dataclass(frozen=True, slots=True)
class Footing:
    """What a decision starts from.

    `plan` is None before the start of a suspended run. `begins`: the run starts, starts over or
    goes on by a token now; nothing of that may be in status before it has come about. `renews`:
    also pods that work are to have the spec's present settings. `ended`: there is nothing left to
    do. `refused`: there is no plan to go on with, as the pinned one is gone or a new one would be
    beyond what the platform allows.
    """

    status: Status
    plan: Plan | None = None
    actions: tuple[Action, ...] = ()
    begins: bool = False
    renews: bool = False
    ended: bool = False
    refused: Refusal | None = None


def footing(observed: Observed, settings: Settings, now: datetime) -> Footing:
    """The status and plan to go on with, and the actions that put them in force."""
    resource, status = observed.resource, observed.resource.status
    suspended = bool(resource.spec.suspend)
    pinned, repair = _pinned(observed, settings)
    # A rerun that is asked for in a suspended run is looked at when it goes on.
    asked = Rerun.NOTHING
    if not suspended:
        asked = rerun.verdict(resource, pinned, settings, claim_lost=observed.claim_lost)
    if status.phase in FINAL and asked in (Rerun.NOTHING, Rerun.NOTE):
        token = resource.spec.rerun_token if asked is Rerun.NOTE else status.rerun_token
        return Footing(status.model_copy(update={"rerun_token": token}), ended=True)
    if status.plan_hash is None and suspended:
        return Footing(status)
    if status.plan_hash is None or asked is Rerun.START_OVER:
        return _start(observed, settings, now)
    if pinned is None:
        return Footing(status, refused=_lost(observed, status.plan_hash))
    if asked in (Rerun.GO_ON, Rerun.RENEW):
        return _go_on(observed, settings, pinned, repair, asked)
    if asked is Rerun.NOTE:
        status = status.model_copy(update={"rerun_token": resource.spec.rerun_token})
    return Footing(status, pinned, repair)


def _go_on(
    observed: Observed,
    settings: Settings,
    pinned: Plan,
    repair: tuple[Action, ...],
    asked: Rerun,
) -> Footing:
    resource, status = observed.resource, observed.resource.status
    plan, actions = pinned, (*repair, *_claim(resource))
    since = first_changed(resource, pinned, settings)
    if since is not None:
        plan = continued(pinned, resource, settings, since)
        status = begun_again(status, plan, observed.jobs)
        actions = (*actions, CreatePlan(plan))
    token, renews = resource.spec.rerun_token, asked is Rerun.RENEW
    if renews:
        status = status.model_copy(update={"rerun_token": token})
    else:
        status = rerun.reopened(status, token)
    return Footing(status, plan, actions, begins=True, renews=renews)


def _start(observed: Observed, settings: Settings, now: datetime) -> Footing:
    resource = observed.resource
    beyond = limits.refused(resource.spec, settings.platform)
    if beyond is not None:
        return Footing(resource.status, refused=beyond)
    plan = make_plan(resource, settings)
    status = begun(resource, plan, observed.jobs, now)
    return Footing(status, plan, (*_claim(resource), CreatePlan(plan)), begins=True)


def _claim(resource: FineTuneJob) -> tuple[Action, ...]:
    name, nodes = resource.spec.storage.claim_name, resource.spec.resources.nodes
    if name is None:
        return (CreateClaim(),)
    return (CheckClaim(name, nodes),) if nodes > 1 else ()


def _pinned(observed: Observed, settings: Settings) -> tuple[Plan | None, tuple[Action, ...]]:
    status = observed.resource.status
    if status.plan_hash is None:
        return None, ()
    if observed.plan is not None and observed.plan.hash == status.plan_hash:
        return observed.plan, ()
    if status.phase in FINAL and observed.plan is None:
        return None, ()
    # The ConfigMap is gone. The spec may not have changed since, so it gives the same plan again,
    # if the image is the one of then.
    image = status.resolved.trainer_image if status.resolved else None
    then = dataclasses.replace(settings, trainer_image=image or settings.trainer_image)
    plan = make_plan(observed.resource, then)
    return (plan, (CreatePlan(plan),)) if plan.hash == status.plan_hash else (None, ())


def _lost(observed: Observed, plan_hash: str) -> Refusal:
    name = plan_name(observed.resource.metadata.name, plan_hash)
    return Refusal(
        RefusalReason.PLAN_LOST,
        f"ConfigMap {name} with the pinned plan is gone and the spec gives another plan now: "
        "change spec.rerunToken to start over.",
        final=True,
    )
