"""Gathering the facts of one run: from the store, and by calls where the store cannot know.

What follows from the facts is core's matter.
"""

from __future__ import annotations

import asyncio

from finetune_operator.api.resource import FineTuneJob
from finetune_operator.build.plan import plan_of
from finetune_operator.core.model import JobRecord, JobState, Observed, Plan, Termination, Waiting
from finetune_operator.core.naming import plan_name
from finetune_operator.kube.client import Client
from finetune_operator.kube.errors import NotFound
from finetune_operator.kube.resources import CLAIMS, CONFIG_MAPS
from finetune_operator.runtime.memory import Memory
from finetune_operator.runtime.pods import Pods
from finetune_operator.runtime.reports import Reports
from finetune_operator.runtime.store import Store
from finetune_operator.vocabulary import StageState

# A pod on an idle node with the image present starts within this.
PATIENCE = 3.0
WAITING_EVERY = 10.0


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
        waiting, again = await self._waiting(resource, jobs, memory)
        observed = Observed(
            resource=resource,
            jobs=jobs,
            terminations=await self._terminations(resource, jobs, memory),
            waiting=waiting,
            plan=await self._plan(resource, memory),
            claim_lost=await self._claim_lost(resource),
            report=self._reports.get(resource.metadata.uid),
        )
        return observed, again

    async def _plan(self, resource: FineTuneJob, memory: Memory) -> Plan | None:
        pinned = resource.status.plan_hash
        if pinned is None:
            return next(iter(memory.plans.values()), None)
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
        if claim is None or resource.spec.rerun_token in (None, status.rerun_token):
            return False
        try:
            found = await self._client.get(CLAIMS, resource.metadata.namespace, claim)
        except NotFound:
            return True
        return "deletionTimestamp" in found["metadata"]

    async def _terminations(
        self, resource: FineTuneJob, jobs: tuple[JobRecord, ...], memory: Memory
    ) -> dict[str, Termination]:
        ended = [job for job in jobs if job.state in (JobState.SUCCEEDED, JobState.FAILED)]
        for job in ended:
            if job.uid not in memory.terminations and not _recorded(resource, job):
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
        stuck = [job for job in jobs if job.state == JobState.WAITING]
        memory.waiting_since = {job.uid: memory.waiting_since.get(job.uid, now) for job in stuck}
        found: dict[str, Waiting] = {}
        again: float | None = None
        for job in stuck:
            waited = now - memory.waiting_since[job.uid]
            if waited < PATIENCE:
                again = PATIENCE - waited
                continue
            again = WAITING_EVERY
            reason = await self._pods.waiting(resource.metadata.namespace, job)
            if reason is not None:
                found[job.name] = reason
        return found, again


def _recorded(resource: FineTuneJob, job: JobRecord) -> bool:
    """Whether status holds how this Job ended, so that its pods need not be read (again)."""
    status = resource.status
    if status.plan_hash is not None and job.plan_hash != status.plan_hash:
        return True
    if any(attempt.job == job.name for attempt in status.attempts):
        return True
    for stage in status.stages:
        if stage.name == job.stage:
            ended = stage.state in (StageState.SUCCEEDED, StageState.FAILED)
            return job.attempt < stage.attempt or (job.attempt == stage.attempt and ended)
    return False
