"""The pods of a Job, read when they have something to tell: it ended, or they do not start or stop.

Pods are never watched: a run's cost would grow with its nodes.
"""

from __future__ import annotations

from typing import Any

from finetune_operator.core.model import JobRecord, JobState, Termination, Waiting
from finetune_operator.core.waiting import STARTING
from finetune_operator.kube.client import Client
from finetune_operator.kube.errors import NotFound
from finetune_operator.kube.resources import CLAIMS, EVENTS, PODS
from finetune_operator.runtime import termination, waiting
from finetune_operator.vocabulary import Stage

Json = dict[str, Any]

JOB_UID = "batch.kubernetes.io/controller-uid"
JOB_INDEX = "batch.kubernetes.io/job-completion-index"
FAILED_READ = "100"
# Pods of one Job mostly wait for the same: of many, some tell it all.
PENDING_READ = "20"
EVENTS_OF = 3


class Pods:
    """Reads pods of Jobs, and what they hang on."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def termination(self, namespace: str, job: JobRecord) -> Termination:
        """What explains the end of this Job."""
        succeeded = job.state == JobState.SUCCEEDED
        selector = f"{JOB_UID}={job.uid}"
        if succeeded and job.stage == Stage.TRAIN:
            pods = await self._list(namespace, labelSelector=f"{selector},{JOB_INDEX}=0")
        elif succeeded:
            pods = await self._list(namespace, labelSelector=selector)
        else:
            pods = await self._list(
                namespace,
                labelSelector=selector,
                fieldSelector="status.phase=Failed",
                limit=FAILED_READ,
            )
        return termination.explain(pods, succeeded=succeeded)

    async def starting(self, namespace: str, job: JobRecord, claim: str) -> Waiting:
        """What keeps this Job's pods from starting, as far as it can be found."""
        pods = await self._list(
            namespace,
            labelSelector=f"{JOB_UID}={job.uid}",
            fieldSelector="status.phase=Pending",
            limit=PENDING_READ,
        )
        found = waiting.from_pods(pods)
        if found is None:
            found = await self._told_of_pods(namespace, pods)
        if found is None and not pods:
            found = await self._told(namespace, job.uid)
        if found is None or waiting.is_about_claim(found):
            found = await self._of_claim(namespace, claim) or found
        return found or Waiting(STARTING, "")

    async def stopping(self, namespace: str, job: JobRecord) -> Waiting | None:
        """The pod that this Job waits for to stop, if there is one."""
        pods = await self._list(namespace, labelSelector=f"{JOB_UID}={job.uid}", limit=FAILED_READ)
        return waiting.from_stopping(pods)

    async def _told_of_pods(self, namespace: str, pods: list[Json]) -> Waiting | None:
        for pod in pods[:EVENTS_OF]:
            since = waiting.scheduled_at(pod)
            found = await self._told(namespace, pod["metadata"]["uid"], since=since)
            if found is not None:
                return found
        return None

    async def _of_claim(self, namespace: str, name: str) -> Waiting | None:
        try:
            claim = await self._client.get(CLAIMS, namespace, name)
        except NotFound:
            return waiting.from_claim(name, None, None)
        if claim.get("status", {}).get("phase") == "Bound":
            return None
        told = await self._told(namespace, claim["metadata"]["uid"])
        return waiting.from_claim(name, claim, told)

    async def _told(self, namespace: str, uid: str, *, since: str | None = None) -> Waiting | None:
        page = await self._client.list_page(
            EVENTS, namespace, fieldSelector=f"involvedObject.uid={uid},type=Warning"
        )
        return waiting.from_events(page.get("items", []), since=since)

    async def _list(self, namespace: str, **query: str) -> list[Json]:
        page = await self._client.list_page(PODS, namespace, **query)
        return [pod for pod in page.get("items", []) if _made_by_its_job(pod)]


def _made_by_its_job(pod: Json) -> bool:
    # The label that pods are selected by can be on anybody's pod; its Job must control it as well.
    metadata = pod["metadata"]
    job = metadata.get("labels", {}).get(JOB_UID)
    owners = metadata.get("ownerReferences", ())
    return any(owner.get("controller") and owner["uid"] == job for owner in owners)
