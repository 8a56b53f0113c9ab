"""Conditions, from where the run stands. kstatus, `kubectl wait` and GitOps tools read them.

`Reconciling` is True while work goes on, `Stalled` when it has ended without success and only a
person can help, `Ready` when there is a result. A condition that is not in force says why in its
reason and has no message.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from finetune_operator.api.status import Condition, StageStatus, Status
from finetune_operator.core.moments import to_text
from finetune_operator.vocabulary import CONDITION_OF_STAGE, ConditionType, Phase, StageState


@dataclass(frozen=True, slots=True)
class Situation:
    """Where the run stands: one word for people, one for programs, one sentence."""

    phase: Phase
    reason: str
    message: str


_IN_FORCE = {
    ConditionType.READY: frozenset({Phase.SUCCEEDED}),
    ConditionType.SUCCEEDED: frozenset({Phase.SUCCEEDED}),
    ConditionType.FAILED: frozenset({Phase.FAILED}),
    ConditionType.SUSPENDED: frozenset({Phase.SUSPENDED}),
    ConditionType.RECONCILING: frozenset(Phase) - {Phase.SUCCEEDED, Phase.FAILED, Phase.SUSPENDED},
    ConditionType.STALLED: frozenset({Phase.FAILED}),
}


def conditions(
    status: Status, situation: Situation, generation: int, now: datetime
) -> list[Condition]:
    """The conditions of this situation; `status` holds the former ones and the stages."""
    former = {condition.type: condition for condition in status.conditions}
    made = [*_of_run(situation), *(_of_stage(entry, situation) for entry in status.stages)]
    return list(_timed(made, former, generation, to_text(now)))


@dataclass(frozen=True, slots=True)
class _Claim:
    type: str
    true: bool
    reason: str
    message: str


def _of_run(situation: Situation) -> Iterable[_Claim]:
    for kind, phases in _IN_FORCE.items():
        true = situation.phase in phases
        # Ready is the one that tools show, so it always says how things stand.
        told = true or kind is ConditionType.READY
        yield _Claim(kind, true, situation.reason, situation.message if told else "")


def _of_stage(entry: StageStatus, situation: Situation) -> _Claim:
    reason = str(entry.state)
    if entry.state is StageState.FAILED:
        reason = situation.reason
    return _Claim(
        CONDITION_OF_STAGE[entry.name],
        entry.state is StageState.SUCCEEDED,
        reason,
        entry.message or "",
    )


def _timed(
    claims: Iterable[_Claim], former: dict[str, Condition], generation: int, now: str
) -> Iterable[Condition]:
    for claim in claims:
        value = "True" if claim.true else "False"
        before = former.get(claim.type)
        same = before is not None and before.status == value
        yield Condition(
            type=claim.type,
            status=value,
            reason=claim.reason,
            message=claim.message,
            last_transition_time=before.last_transition_time if before and same else now,
            observed_generation=generation,
        )
