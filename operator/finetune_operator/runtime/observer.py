"""Gathering the facts of one run: from the store, and by calls where the store cannot know.

What follows from the facts is core's matter.
"""

from __future__ import annotations

import asyncio
import math

from finetune_operator.api.resource import FineTuneJob
from finetune_operator.build.plan import plan_of
from finetune_operator.core import stages
from finetune_operator.core.model import JobRecord, JobState, Observed, Plan, Termination, Waiting
from finetune_operator.core.naming import claim_of, plan_name
from finetune_operator.core.plan import hash_for
from finetune_operator.core.status import FINAL
from finetune_operator.kube.client import Client
from finetune_operator.kube.errors import NotFound
from finetune_operator.kube.resources import CLAIMS, CONFIG_MAPS, JOBS
from finetune_operator.runtime.jobs import project
from finetune_operator.runtime.memory import Look, Memory
from finetune_operator.runtime.patience import until_look
from finetune_operator.runtime.pods import Pods
from finetune_operator.runtime.reports import Reports
from finetune_operator.runtime.store import Store
from finetune_operator.vocabulary import StageState

# A Job that no watch tells of has to be asked for.
UNSEEN_EVERY = 10.0
_LOOKED_INTO = (JobState.WAITING, JobState.STOPPING, JobState.DELETING)


class Observer:
    """Makes `Observed` for one run at a time."""

    def __init__(self, client: Client, store: Store, reports: Reports) -> None:
        self._client = client
        self._store = store
        self._pods = Pods(client)
        self._reports = reports

    async def observe(self, resource: FineTuneJob, memory: Memory) -> tuple[Observed, float | None]:
        """The facts, and when they should be looked at again though no watch will tell."""
        jobs = self._store.jobs_of(resource.metadata.namespace, resource.metadata.uid)
        unseen = await self._unseen(resource, jobs)
        jobs += unseen
        plan = await self._plan(resource, memory)
        waiting, again = await self._waiting(resource, jobs, memory)
        observed = Observed(
            resource=resource,
            jobs=jobs,
            terminations=await self._terminations(resource, plan, jobs, memory),
            waiting=waiting,
            stopped=frozenset(memory.stopped),
            plan=plan,
            claim_lost=await self._claim_lost(resource),
            report=self._reports.get(resource.metadata.uid),
        )
        if unseen:
            again = min(again or UNSEEN_EVERY, UNSEEN_EVERY)
        return observed, again

    async def _unseen(
        self, resource: FineTuneJob, jobs: tuple[JobRecord, ...]
    ) -> tuple[JobRecord, ...]:
        """The Job that status says is running, if it is there though the watch has not told.

        The watch of Jobs may be behind that of runs, or somebody has taken our label off it: taken
        for deleted, it would be replaced, and killed when it shows up.
        """
        entry = stages.current(resource.status)
        if entry is None or entry.state is not StageState.RUNNING or entry.job is None:
            return ()
        if any(job.name == entry.job for job in jobs):
            return ()
        try:
            found = await self._client.get(JOBS, resource.metadata.namespace, entry.job)
        except NotFound:
            return ()
        record = project(found)
        if record is None or record.owner_uid != resource.metadata.uid:
            return ()
        return (record,)

    async def _plan(self, resource: FineTuneJob, memory: Memory) -> Plan | None:
        pinned = resource.status.plan_hash
        if pinned is None or _rests(resource):
            memory.plans = {}
            return None
        if pinned not in memory.plans:
            name = plan_name(resource.metadata.name, pinned)
            try:
                found = await self._client.get(CONFIG_MAPS, resource.metadata.namespace, name)
            except NotFound:
                return None
            memory.plans = {pinned: plan_of(found)}
        return memory.plans[pinned]

    async def _claim_lost(self, resource: FineTuneJob) -> bool:
        status = resource.status
        claim = status.artifacts.claim_name if status.artifacts else None
        if claim is None or not _asks_anew(resource):
            return False
        try:
            found = await self._client.get(CLAIMS, resource.metadata.namespace, claim)
        except NotFound:
            return True
        return "deletionTimestamp" in found["metadata"]

    async def _terminations(
        self,
        resource: FineTuneJob,
        plan: Plan | None,
        jobs: tuple[JobRecord, ...],
        memory: Memory,
    ) -> dict[str, Termination]:
        ended = [job for job in jobs if job.state in (JobState.SUCCEEDED, JobState.FAILED)]
        for job in ended:
            if job.uid not in memory.terminations and not _recorded(resource, plan, job):
                memory.terminations[job.uid] = await self._pods.termination(
                    resource.metadata.namespace, job
                )
        return {
            job.name: memory.terminations[job.uid]
            for job in ended
            if job.uid in memory.terminations
        }

    async def _waiting(
        self, resource: FineTuneJob, jobs: tuple[JobRecord, ...], memory: Memory
    ) -> tuple[dict[str, Waiting], float | None]:
        now = asyncio.get_running_loop().time()
        slow = [job for job in jobs if job.state in _LOOKED_INTO]
        memory.looks = {_case(job): memory.looks.get(_case(job)) or Look(now) for job in slow}
        found: dict[str, Waiting] = {}
        again: float | None = None
        for job in slow:
            look = memory.looks[_case(job)]
            if _due_in(look, now) <= 0:
                look.found, look.at = await self._look_into(resource, job), now
            if look.found is not None:
                found[job.name] = look.found
            again = min(again or math.inf, _due_in(look, now))
        return found, again

    async def _look_into(self, resource: FineTuneJob, job: JobRecord) -> Waiting | None:
        namespace, name = resource.metadata.namespace, resource.metadata.name
        if job.state is JobState.WAITING:
            claim = claim_of(name, resource.spec.storage.claim_name)
            return await self._pods.starting(namespace, job, claim)
        return await self._pods.stopping(namespace, job)


def _rests(resource: FineTuneJob) -> bool:
    """Whether the run has ended and nothing new is asked for: then the plan is not needed."""
    return resource.status.phase in FINAL and not _asks_anew(resource)


def _asks_anew(resource: FineTuneJob) -> bool:
    """Whether a rerun is asked for that status does not tell of yet."""
    return resource.spec.rerun_token not in (None, resource.status.rerun_token)


def _case(job: JobRecord) -> tuple[str, JobState]:
    return job.uid, job.state


def _due_in(look: Look, now: float) -> float:
    since_last = None if look.at is None else now - look.at
    return until_look(now - look.begun, since_last)


def _recorded(resource: FineTuneJob, plan: Plan | None, job: JobRecord) -> bool:
    """Whether status holds how this Job ended, so that its pods need not be read (again)."""
    status = resource.status
    its_plan = hash_for(plan, job.stage) if plan else status.plan_hash
    # A Job of the plan that a rerun leads to may have ended before status told of either.
    if its_plan not in (None, job.plan_hash) and not _asks_anew(resource):
        return True
    if any(attempt.job == job.name for attempt in status.attempts):
        return True
    for stage in status.stages:
        if stage.name == job.stage:
            ended = stage.state in (StageState.SUCCEEDED, StageState.FAILED)
            return job.attempt < stage.attempt or (job.attempt == stage.attempt and ended)
    return False
