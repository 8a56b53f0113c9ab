"""Whose words count as a Job's: pods that its controller made, whatever labels others bear."""

from __future__ import annotations

from typing import Any

import pytest

from finetune_operator.core.model import JobRecord, Waiting
from finetune_operator.core.waiting import STARTING
from finetune_operator.kube.client import Client
from finetune_operator.kube.resources import PODS, Resource
from finetune_operator.runtime.jobs import project
from finetune_operator.runtime.pods import JOB_UID, Pods
from unit.operator.runtime.manifests import NAMESPACE, condition, job, pod

Json = dict[str, Any]


class Listed(Client):
    """An API server that lists these pods, whatever is asked for, no events, and a bound claim."""

    def __init__(self, *pods: Json) -> None:
        self._pods = pods

    async def list_page(
        self, resource: Resource, namespace: str | None = None, **query: str
    ) -> Json:
        return {"items": list(self._pods) if resource is PODS else []}

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Json:
        return {"status": {"phase": "Bound"}}


def record(*conditions: Json) -> JobRecord:
    found = project(job(uid="job-1", status={"conditions": list(conditions)}))
    assert found is not None
    return found


def owned(found: Json, **owner: Any) -> Json:
    reference = {"kind": "Job", "name": "demo-train-1", "uid": "job-1", "controller": True, **owner}
    found["metadata"]["ownerReferences"] = [reference]
    return labelled(found)


def labelled(found: Json) -> Json:
    found["metadata"]["labels"] = {JOB_UID: "job-1"}
    return found


@pytest.mark.parametrize("owner", [{"uid": "job-2"}, {"controller": False}])
async def test_a_pod_that_only_bears_the_label_explains_nothing(owner: Json) -> None:
    mine = owned(pod(exit_code=12, finished="2026-01-31T12:00:09Z"))
    foreign = owned(pod(exit_code=10, message='{"message": "lies"}'), **owner)
    found = await Pods(Listed(foreign, mine)).termination(NAMESPACE, record(condition("Failed")))
    assert (found.exit_code, found.document) == (12, {})


async def test_a_pod_that_only_bears_the_label_keeps_nothing_waiting() -> None:
    foreign = labelled(pod("Pending", waiting={"reason": "ImagePullBackOff", "message": "lies"}))
    found = await Pods(Listed(foreign)).starting(NAMESPACE, record(), "demo-workspace")
    assert found == Waiting(STARTING, "")
