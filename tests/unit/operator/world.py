"""A cluster small enough to hold in one's head: carries out decisions, plays the Jobs' ends.

It refuses what must never be asked for: a second live Job, a Job's name that was used before.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from finetune_operator.api.resource import FineTuneJob
from finetune_operator.api.status import StageStatus, Status
from finetune_operator.core.decide import decide
from finetune_operator.core.model import (
    Action,
    CreateClaim,
    CreateJob,
    CreatePlan,
    CreateService,
    Decision,
    DeleteJob,
    Event,
    JobRecord,
    JobState,
    Observed,
    Plan,
    Refusal,
    Report,
    Settings,
    Termination,
    Waiting,
)
from finetune_operator.core.moments import to_text
from finetune_operator.core.naming import job_name
from finetune_operator.core.plan import hash_for
from finetune_operator.core.template import template_hash
from finetune_operator.vocabulary import Stage
from unit.operator.builders import RUN, SETTINGS, UID, later, resource

ENDED = (JobState.SUCCEEDED, JobState.FAILED)


class World:
    """One FineTuneJob and everything that it owns."""

    def __init__(self, settings: Settings = SETTINGS, **changes: Any) -> None:
        self.settings = settings
        self.changes = changes
        self.status = Status()
        self.generation = 1
        self.jobs: dict[str, JobRecord] = {}
        self.plans: dict[str, Plan] = {}
        self.claims = self.services = 0
        self.claim_lost = False
        self.stopped: set[str] = set()
        self.terminations: dict[str, Termination] = {}
        self.waiting: dict[str, Waiting] = {}
        self.report: Report | None = None
        self.refuse: dict[type[Action], Refusal] = {}
        self.events: list[Event] = []
        self.writes = 0
        self.seconds = 0.0
        self.requeue_after: float | None = None

    @property
    def now(self) -> datetime:
        return later(self.seconds)

    def resource(self) -> FineTuneJob:
        return resource(status=self.status, generation=self.generation, **self.changes)

    def edit(self, **changes: Any) -> None:
        """The user changes the spec: these top-level fields become so."""
        self.changes = {**self.changes, **changes}
        self.generation += 1

    def look(self, crash_after: int | None = None) -> Decision:
        """One look; with `crash_after` the operator dies after so many actions, before status."""
        decision = decide(self.observed(), self.settings, self.now)
        for index, action in enumerate(decision.actions):
            if index == crash_after:
                return decision
            if type(action) in self.refuse:
                facts = dataclasses.replace(self.observed(), refusal=self.refuse[type(action)])
                decision = decide(facts, self.settings, self.now)
                break
            self._carry_out(action)
        if crash_after is not None:
            return decision
        if decision.status != self.status:
            self.writes += 1
            self.status = Status.model_validate(
                decision.status.model_dump(mode="json", by_alias=True, exclude_none=True)
            )
            self.events += decision.events
        self.requeue_after = decision.requeue_after
        return decision

    def settle(self) -> None:
        """Look until nothing changes any more."""
        for _ in range(20):
            before = (self.status, dict(self.jobs))
            self.look()
            if (self.status, self.jobs) == before:
                return
        raise AssertionError("the decisions do not come to rest")

    def observed(self) -> Observed:
        return Observed(
            resource=self.resource(),
            jobs=tuple(self.jobs.values()),
            terminations=self.terminations,
            waiting=self.waiting,
            stopped=frozenset(self.stopped),
            plan=self.plans.get(self.status.plan_hash or ""),
            claim_lost=self.claim_lost,
            report=self.report,
        )

    def live(self) -> list[JobRecord]:
        return [job for job in self.jobs.values() if job.state not in ENDED]

    def only_live(self) -> JobRecord:
        (job,) = self.live()
        return job

    def become(self, name: str, state: JobState, **fields: Any) -> None:
        self.jobs[name] = dataclasses.replace(self.jobs[name], state=state, **fields)

    def succeed(self, message: str = "", result: Mapping[str, Any] | None = None) -> None:
        """The live Job ends well."""
        name = self.only_live().name
        self._end(name, JobState.SUCCEEDED, Termination(0, _document(message, result)))

    def fail(self, code: int | None = None, message: str = "", **fields: Any) -> None:
        """The live Job ends without success."""
        name = self.only_live().name
        left = Termination(exit_code=code, document=_document(message, None), **fields)
        self._end(name, JobState.FAILED, left)

    def gone(self) -> None:
        """Jobs that were being deleted are gone now, with their pods."""
        self.jobs = {
            name: job for name, job in self.jobs.items() if job.state is not JobState.DELETING
        }

    def stage(self, name: str) -> StageStatus:
        return next(entry for entry in self.status.stages if entry.name == name)

    def condition(self, kind: str) -> tuple[str, str, str]:
        found = next(item for item in self.status.conditions if item.type == kind)
        return found.status, found.reason, found.message

    def _end(self, name: str, state: JobState, left: Termination) -> None:
        self.become(name, state, completion_time=to_text(self.now))
        self.terminations[name] = left

    def _carry_out(self, action: Action) -> None:
        match action:
            case CreatePlan(plan):
                self.plans[plan.hash] = plan
            case CreateClaim():
                self.claims += 1
                self.claim_lost = False
            case CreateService():
                self.services += 1
            case CreateJob(stage, attempt, plan):
                self._create(stage, attempt, plan)
            case DeleteJob(name, uid):
                self.stopped.add(name)
                if name in self.jobs and self.jobs[name].uid == uid:
                    assert self.jobs[name].state is not JobState.DELETING, f"{name} deleted twice"
                    self.become(name, JobState.DELETING)

    def _create(self, stage: Stage, attempt: int, plan: Plan) -> None:
        name = job_name(RUN, stage, attempt)
        assert not self.live(), f"{name} would run beside {self.live()[0].name}"
        assert name not in self.jobs, f"{name} was used before"
        assert hash_for(plan, stage) in self.plans, f"{name} has no plan to read"
        self.jobs[name] = JobRecord(
            name=name,
            uid=f"{name}-{self.seconds}",
            owner_uid=UID,
            stage=stage,
            attempt=attempt,
            plan_hash=hash_for(plan, stage),
            template_hash=template_hash(self.resource(), stage),
            state=JobState.WAITING,
            start_time=to_text(self.now),
        )


def _document(message: str, result: Mapping[str, Any] | None) -> dict[str, Any]:
    return {"message": message, "result": dict(result or {})} if message or result else {}
