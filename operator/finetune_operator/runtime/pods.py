"""The pods of a Job, read when they have something to tell: it ended, or does not start.

Pods are never watched: a run's cost would grow with its nodes.
"""

from __future__ import annotations

from typing import Any

from finetune_operator.core.model import JobRecord, JobState, Termination, Waiting
from finetune_operator.kube.client import Client
from finetune_operator.kube.resources import EVENTS, PODS
from finetune_operator.runtime import termination, waiting
from finetune_operator.vocabulary import Stage

Json = dict[str, Any]

JOB_UID = "batch.kubernetes.io/controller-uid"
JOB_INDEX = "batch.kubernetes.io/job-completion-index"
FAILED_READ = "100"
WAITING_READ = "5"


class Pods:
    """Reads pods of Jobs."""

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

    async def waiting(self, namespace: str, job: JobRecord) -> Waiting | None:
        """What keeps this Job's pods from running, if anything is to be found."""
        pods = await self._list(namespace, labelSelector=f"{JOB_UID}={job.uid}", limit=WAITING_READ)
        if pods:
            found = waiting.from_pods(pods)
            if found is not None:
                return found
        uid = pods[0]["metadata"]["uid"] if pods else job.uid
        page = await self._client.list_page(
            EVENTS, namespace, fieldSelector=f"involvedObject.uid={uid},type=Warning"
        )
        return waiting.from_events(page.get("items", []))

    async def _list(self, namespace: str, **query: str) -> list[Json]:
        page = await self._client.list_page(PODS, namespace, **query)
        return [pod for pod in page.get("items", []) if _made_by_its_job(pod)]


def _made_by_its_job(pod: Json) -> bool:
    # The label that pods are selected by can be on anybody's pod; its Job must control it as well.
    metadata = pod["metadata"]
    job = metadata.get("labels", {}).get(JOB_UID)
    owners = metadata.get("ownerReferences", ())
    return any(owner.get("controller") and owner["uid"] == job for owner in owners)
