"""The real API server accepts everything that the operator builds, in a restricted namespace.

Nothing is left behind: every request is a dry run, with unknown fields refused.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import pytest

from cluster.handle import Cluster, KubectlError
from finetune_operator.api.resource import NAME_LIMIT
from finetune_operator.build.manifests import Creation, manifest
from finetune_operator.core.model import (
    CreateClaim,
    CreateJob,
    CreatePlan,
    CreateService,
    Settings,
)
from finetune_operator.core.naming import ATTEMPT_LIMIT
from finetune_operator.core.plan import make_plan
from finetune_operator.vocabulary import Stage
from unit.operator.builders import resource

SETTINGS = Settings(
    trainer_image="registry.example/trainer:1",
    hub_endpoint="http://hub.example",
    progress_url="https://operator.example:8443",
    progress_ca="PEM",
)

EVERYTHING: dict[str, Any] = {
    "model": {"source": "pvc://models/base", "tokenSecretRef": {"name": "read", "key": "hf.token"}},
    "dataset": {"source": "pvc://data/a.jsonl", "tokenSecretRef": {"name": "read"}},
    "resources": {
        "nodes": 512,
        "gpusPerNode": 8,
        "cpu": "1500m",
        "memory": "64Gi",
        "sharedMemory": "8Gi",
    },
    "storage": {"size": "1Ti", "storageClassName": "fast", "reclaim": "Retain"},
    "scheduling": {
        "nodeSelector": {"pool": "gpu"},
        "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
        "affinity": {
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [
                        {"matchExpressions": [{"key": "gpu", "operator": "Exists"}]}
                    ]
                }
            }
        },
        "schedulerName": "mine",
    },
    "trainer": {"imagePullPolicy": "Always", "imagePullSecrets": [{"name": "registry"}]},
}


@pytest.fixture(scope="module")
def namespace(control_plane: Cluster) -> Iterator[str]:
    with control_plane.namespace("manifests", restricted=True) as name:
        yield name


def built(namespace: str, changes: dict[str, Any], name: str, attempt: int) -> list[dict[str, Any]]:
    """Every object of a run."""
    job = resource(name, **changes)
    metadata = job.metadata.model_copy(update={"namespace": namespace})
    job = job.model_copy(update={"metadata": metadata})
    plan = make_plan(job, SETTINGS)
    actions: list[Creation] = [CreatePlan(plan), CreateClaim(), CreateService()]
    actions += [CreateJob(stage, attempt, plan) for stage in Stage]
    return [manifest(action, job, SETTINGS) for action in actions]


def as_pod(job: dict[str, Any]) -> dict[str, Any]:
    """The pod that the Job's controller would make: only a pod is refused by Pod Security."""
    template = job["spec"]["template"]
    metadata = {
        **template["metadata"],
        "name": f"{job['metadata']['name']}-0",
        "namespace": job["metadata"]["namespace"],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {**template["spec"], "hostname": metadata["name"]},
    }


def accepted(control_plane: Cluster, objects: list[dict[str, Any]]) -> str:
    document = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    return control_plane.kubectl(
        "create", "--dry-run=server", "--validate=strict", "-o", "name", "-f", "-", input=document
    )


@pytest.mark.parametrize(
    ("changes", "name", "attempt"),
    [
        ({}, "demo", 1),
        ({"method": {"lora": None, "full": {}}, "resources": {"nodes": 2}}, "demo", 2),
        (EVERYTHING, "a" * NAME_LIMIT, ATTEMPT_LIMIT),
    ],
    ids=["minimal", "full", "everything"],
)
def test_every_object_is_accepted_and_every_pod_is_restricted(
    control_plane: Cluster, namespace: str, changes: dict[str, Any], name: str, attempt: int
) -> None:
    objects = built(namespace, changes, name, attempt)
    pods = [as_pod(item) for item in objects if item["kind"] == "Job"]
    assert len(accepted(control_plane, [*objects, *pods]).split()) == len(objects) + len(pods)


def test_the_check_sees_what_is_not_restricted(control_plane: Cluster, namespace: str) -> None:
    pod = as_pod(built(namespace, {}, "demo", 1)[-1])
    del pod["spec"]["securityContext"]["seccompProfile"]
    with pytest.raises(KubectlError, match="violates PodSecurity"):
        accepted(control_plane, [pod])


def test_the_check_sees_a_field_that_does_not_exist(control_plane: Cluster, namespace: str) -> None:
    job = built(namespace, {}, "demo", 1)[-1]
    job["spec"]["backofLimit"] = 0
    with pytest.raises(KubectlError, match="backofLimit"):
        accepted(control_plane, [job])


def test_without_an_endpoint_and_a_hub_it_is_accepted_too(
    control_plane: Cluster, namespace: str
) -> None:
    plain = dataclasses.replace(SETTINGS, hub_endpoint=None, progress_url=None, progress_ca=None)
    job = resource()
    metadata = job.metadata.model_copy(update={"namespace": namespace})
    job = job.model_copy(update={"metadata": metadata})
    train = manifest(CreateJob(Stage.TRAIN, 1, make_plan(job, plain)), job, plain)
    assert accepted(control_plane, [train, as_pod(train)])
