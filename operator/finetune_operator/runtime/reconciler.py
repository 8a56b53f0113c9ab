"""One look at one run: facts → decision → actions → one write of status.

Level-triggered: every look starts from the facts alone, so it may be cut off at any line and
repeated. What is to be done is decided in core.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from pydantic import ValidationError

from finetune_operator.api.resource import FineTuneJob
from finetune_operator.core import events
from finetune_operator.core.model import (
    Action,
    CheckClaim,
    CreateClaim,
    CreateJob,
    CreatePlan,
    Decision,
    DeleteJob,
    Event,
    Observed,
    Refusal,
)
from finetune_operator.core.naming import job_name, plan_name, service_name, workspace_name
from finetune_operator.core.text import sentence
from finetune_operator.kube.errors import ApiError, Conflict, Transient
from finetune_operator.runtime import subject
from finetune_operator.runtime.actions import Actions, Refused
from finetune_operator.runtime.memory import Memories, Memory
from finetune_operator.runtime.meter import Meter
from finetune_operator.runtime.observer import Observer
from finetune_operator.runtime.queue import Queue
from finetune_operator.runtime.statuswriter import StatusWriter
from finetune_operator.runtime.store import Key, RunEntry, Store
from finetune_operator.runtime.subject import Subject
from finetune_operator.vocabulary import EventReason, RefusalReason

log = logging.getLogger(__name__)

Decide = Callable[[Observed, datetime], Decision]


@dataclass(frozen=True, slots=True)
class Outcome:
    """A decision that was carried out, and what it was made on."""

    resource: FineTuneJob
    observed: Observed
    entry: RunEntry
    decision: Decision


# What was refused (a quota, a right) changes by someone's hand: looking often does not help.
REFUSED_EVERY = 15.0
# What is on its way out is gone within seconds most of the time.
PASSING_EVERY = 2.0
# What passes by itself within this is not worth a word.
PASSES_WITHIN = 10.0


class Reconciler:
    """Brings one run at a time closer to what its spec says."""

    def __init__(
        self,
        *,
        store: Store,
        queue: Queue[Key],
        memories: Memories,
        observer: Observer,
        actions: Actions,
        writer: StatusWriter,
        decide: Decide,
        meter: Meter,
    ) -> None:
        self._store = store
        self._queue = queue
        self._memories = memories
        self._observer = observer
        self._actions = actions
        self._writer = writer
        self._decide = decide
        self._meter = meter
        self._unwritten: dict[Key, Outcome] = {}

    async def work(self) -> None:
        """A worker: takes keys from the queue until it is cancelled."""
        while True:
            key = await self._queue.get()
            entry = self._store.run(key)
            subject.run.set(Subject(*key, uid=entry.uid if entry else None))
            start, outcome = asyncio.get_running_loop().time(), "Error"
            try:
                again = await self.reconcile(key)
                self._queue.forget(key)
                if again is not None:
                    self._queue.add_after(key, again)
                outcome = "Done"
            except ApiError as error:
                outcome = "Conflict" if isinstance(error, Conflict) else "ApiError"
                self._try_again(key, error)
            except Exception as error:
                delay = self._queue.retry(key)
                log.exception("%s/%s: unexpected error, again in %.1f s", *key, delay)
                await self._tell_fault(key, error)
            finally:
                self._meter.looked(outcome, asyncio.get_running_loop().time() - start)
                self._queue.done(key)
                subject.run.set(None)

    async def _tell_fault(self, key: Key, error: Exception) -> None:
        """Who waits for this run and cannot read our log should know why it stands still."""
        entry = self._store.run(key)
        if entry is None:
            return
        message = (
            f"This is a fault of the operator ({type(error).__name__}), which tries again: please "
            "report it with this FineTuneJob and the operator's log."
        )
        try:
            await self._writer.tell_fault(
                entry, Event(events.WARNING, EventReason.INTERNAL_ERROR, message)
            )
        except Exception:
            log.exception("%s/%s: the fault was not told", *key)

    async def reconcile(self, key: Key) -> float | None:
        """One look; in how many seconds to look again at the latest, if at all."""
        unwritten = self._unwritten.pop(key, None)
        if unwritten is not None:
            await self._write(unwritten)
        entry = self._store.run(key)
        if entry is None:
            return None
        self._meter.know(key[0])
        try:
            resource = entry.resource()
        except ValidationError as error:
            # The CRD in the cluster is another version's; its owner has to act, not a retry.
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            log.error("%s/%s: %s: %s. Does the CRD match the operator?", *key, place, first["msg"])
            return None
        memory = self._memories.of(entry.uid)
        observed, again = await self._observer.observe(resource, memory)
        decision = self._decide(observed, datetime.now(UTC))
        known = self._known(decision, resource)
        try:
            for action in decision.actions:
                await self._carry_out(action, resource, memory)
            memory.failing_since = None
        except Refused as refused:
            memory.failing_since = None
            decision, later = self._after_refusal(observed, refused.refusal)
            again = _earliest(again, later)
        except ApiError as error:
            if isinstance(error, Conflict) or not _lasts(memory):
                raise
            refusal = Refusal(
                RefusalReason.UNAVAILABLE, _trouble(resource, action, error), final=False
            )
            decision, later = self._after_refusal(observed, refusal)
            again = _earliest(again, later)
        if resource.metadata.deletion_timestamp is not None:
            return again
        outcome = Outcome(resource, observed, entry, decision)
        if decision.actions and self._queue.urgent_waiting():
            # Other runs wait for their first Job: what became of this one is told after that.
            self._unwritten[key] = outcome
            return 0.0
        if known - self._known(decision, resource):
            # A Job was gone before it could be deleted: no watch will tell of its end.
            again = 0.0
        again = _earliest(again, decision.requeue_after)
        return _earliest(again, await self._write(outcome))

    async def _carry_out(self, action: Action, resource: FineTuneJob, memory: Memory) -> None:
        await self._actions.carry_out(action, resource)
        if isinstance(action, CreatePlan):
            memory.plans = {action.plan.hash: action.plan}
        if isinstance(action, DeleteJob):
            memory.stopped.add(action.name)
        log.info(
            "%s/%s: %s",
            resource.metadata.namespace,
            resource.metadata.name,
            _said(action, resource.metadata.name),
        )

    def _known(self, decision: Decision, resource: FineTuneJob) -> set[str]:
        """The Jobs to be deleted that the store has: not those that only a call has found."""
        namespace = resource.metadata.namespace
        names = {action.name for action in decision.actions if isinstance(action, DeleteJob)}
        return {name for name in names if self._store.job(namespace, name)}

    def _after_refusal(self, observed: Observed, refusal: Refusal) -> tuple[Decision, float | None]:
        """What follows when an action was refused: only a status, nothing more is tried now."""
        metadata = observed.resource.metadata
        log.warning("%s/%s: %s", metadata.namespace, metadata.name, sentence(refusal.message))
        jobs = {job.name: job for job in observed.jobs}
        jobs |= {j.name: j for j in self._store.jobs_of(metadata.namespace, metadata.uid)}
        facts = dataclasses.replace(observed, jobs=tuple(jobs.values()), refusal=refusal)
        decision = self._decide(facts, datetime.now(UTC))
        if refusal.final:
            return decision, None
        return decision, PASSING_EVERY if refusal.passes else REFUSED_EVERY

    async def _write(self, outcome: Outcome) -> float | None:
        resource, decision = outcome.resource, outcome.decision
        memory = self._memories.of(outcome.entry.uid)
        written, due = await self._writer.write(resource, outcome.entry, decision, memory)
        if written:
            self._meter.written(resource, decision.status, outcome.observed, datetime.now(UTC))
        if written and decision.status.phase != resource.status.phase:
            log.info(
                "%s/%s: phase %s: %s",
                resource.metadata.namespace,
                resource.metadata.name,
                decision.status.phase,
                decision.status.message,
            )
        return due

    def _try_again(self, key: Key, error: ApiError) -> None:
        at_least = error.retry_after if isinstance(error, Transient) else None
        delay = self._queue.retry(key, at_least=at_least or 0.0)
        # A conflict means that a newer version is on its way: nothing to tell.
        if not isinstance(error, Conflict):
            log.warning("%s/%s: %s; again in %.1f s", *key, sentence(error), delay)


def _lasts(memory: Memory) -> bool:
    """Whether calls for this run have failed for so long that a person should know."""
    now = asyncio.get_running_loop().time()
    if memory.failing_since is None:
        memory.failing_since = now
    return now - memory.failing_since >= PASSES_WITHIN


def _trouble(resource: FineTuneJob, action: Action, error: ApiError) -> str:
    what = _object(action, resource.metadata.name)
    return f"{what} cannot be {_verb(action)} now, it is tried again: {error.message}"


def _said(action: Action, run: str) -> str:
    return f"{_verb(action)} {_object(action, run)}"


def _verb(action: Action) -> str:
    return {DeleteJob: "deleted", CheckClaim: "checked"}.get(type(action), "created")


def _object(action: Action, run: str) -> str:
    if isinstance(action, CreateJob):
        return f"Job {job_name(run, action.stage, action.attempt)}"
    if isinstance(action, DeleteJob):
        return f"Job {action.name}"
    if isinstance(action, CheckClaim):
        return f"claim {action.name}"
    if isinstance(action, CreatePlan):
        return f"ConfigMap {plan_name(run, action.plan.hash)}"
    if isinstance(action, CreateClaim):
        return f"claim {workspace_name(run)}"
    return f"Service {service_name(run)}"


def _earliest(first: float | None, second: float | None) -> float | None:
    return min((delay for delay in (first, second) if delay is not None), default=None)
