"""What another `finetune run` on the same directory asks for: go on, try again, or start over.

In a cluster spec.rerunToken says that; here the call itself does, so it finds the token to say it
with. What then follows from the token is the operator's (core/rerun.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from finetune_cli.errors import CliError
from finetune_operator.api.resource import FineTuneJob
from finetune_operator.api.spec import RUN_DEFINING, Spec
from finetune_operator.api.status import Status
from finetune_operator.core.model import Plan, Settings
from finetune_operator.core.sameness import first_changed
from finetune_operator.vocabulary import Phase, Stage


@dataclass(frozen=True, slots=True)
class Asked:
    """The token to decide with. `anew`: what was made so far counts as lost."""

    token: str | None
    anew: bool = False


def asked(
    resource: FineTuneJob,
    former: Spec,
    pinned: Plan | None,
    settings: Settings,
    now: datetime,
    *,
    start_over: bool,
) -> Asked:
    """What this call asks for. `resource` is the file's, with the status so far; `former` is the
    spec of the last call.

    Raises:
        CliError: the file is another run's than what has been trained already.
    """
    status, token = resource.status, resource.spec.rerun_token
    if status.plan_hash is None:
        return Asked(token)
    new = now.strftime("%Y-%m-%dT%H-%M-%SZ")
    if token is not None and token != former.rerun_token:
        new = token
    elif not start_over:
        changed = first_changed(resource, pinned, settings) if pinned else Stage.PREPARE
        # Before training there is nothing to lose: prepare keeps model and data that still fit.
        if changed is Stage.PREPARE and (steps := _trained(status)):
            raise CliError(_other(resource.spec, former, steps))
        if changed is None and status.phase is not Phase.FAILED:
            return Asked(status.rerun_token)
    return Asked(new, anew=start_over)


def _trained(status: Status) -> int:
    """How many steps would have to be done again."""
    return (status.progress.step or 0) if status.progress else 0


def _other(spec: Spec, former: Spec, steps: int) -> str:
    changed = [f"spec.{name}" for name in RUN_DEFINING if _differs(name, spec, former)]
    what = " and ".join(changed) or "The plan"
    verb = "are" if len(changed) > 1 else "is"
    return (
        f"{what} {verb} not what this directory's run was started with, which has trained "
        f"{steps} steps: say --start-over to do them again, or name another --workspace."
    )


def _differs(name: str, spec: Spec, former: Spec) -> bool:
    return bool(getattr(spec, name) != getattr(former, name))
