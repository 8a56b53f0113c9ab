"""What all stages have in common: labels, owner, the restricted pod, the contract's mounts.

What only one stage has stands in that stage's file. Plain dicts, as the API server takes them.
What the pinned plan holds is taken from there, never from the spec, which may have moved on; the
rest of what a Job takes from the spec is what core/template.py hashes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from finetune_operator.api.resource import FineTuneJob
from finetune_operator.api.spec import SecretKeyRef
from finetune_operator.core.model import CreateJob, Platform, Settings
from finetune_operator.core.naming import claim_of, job_name, plan_name
from finetune_operator.core.plan import hash_for
from finetune_operator.core.queueing import queue_labels
from finetune_operator.core.template import template_hash
from finetune_operator.vocabulary import (
    ANNOTATION_PLAN_HASH,
    ANNOTATION_TEMPLATE_HASH,
    API_VERSION,
    KIND,
    LABEL_ATTEMPT,
    LABEL_COMPONENT,
    LABEL_MANAGED_BY,
    LABEL_NAME,
    LABEL_PART_OF,
    LABEL_RUN,
    LABEL_STAGE,
    MANAGER,
    TRAINER,
    ExitCode,
)

Json = dict[str, Any]

# A numeric id, so that the kubelet can see that it is not root; no image needs an entry for it.
USER = 65532
WORKSPACE = "workspace"
# Where a stage finds what it is given: the contract's places.
WORKSPACE_DIRECTORY = "/workspace"
SOURCES_DIRECTORY = "/sources"
RUN_DIRECTORY = "/etc/finetune"
LOSS_DIRECTORY = f"{RUN_DIRECTORY}/loss"
SECRETS = "/var/run/secrets/finetune"
# What is large goes to the workspace; without a limit a run could fill its node's disk.
SCRATCH = "16Gi"


@dataclass(frozen=True, slots=True)
class Parts:
    """What a stage adds to the common pod."""

    env: Sequence[Json] = ()
    volumes: Sequence[Json] = ()
    mounts: Sequence[Json] = ()
    resources: Mapping[str, Any] = field(default_factory=dict)
    pod: Mapping[str, Any] = field(default_factory=dict)
    job: Mapping[str, Any] = field(default_factory=dict)
    ports: Sequence[Json] = ()
    grace_seconds: int = 30


def selector(resource: FineTuneJob) -> dict[str, str]:
    """What all objects of a run have been found by since there are runs."""
    return {LABEL_MANAGED_BY: MANAGER, LABEL_RUN: resource.metadata.name}


def labels(resource: FineTuneJob) -> dict[str, str]:
    """Labels of every object of a run."""
    return {**selector(resource), LABEL_NAME: TRAINER, LABEL_PART_OF: MANAGER}


def owned_metadata(resource: FineTuneJob, name: str) -> Json:
    """Metadata of an object that goes away with its FineTuneJob."""
    return {
        "name": name,
        "namespace": resource.metadata.namespace,
        "labels": labels(resource),
        "ownerReferences": [
            {
                "apiVersion": API_VERSION,
                "kind": KIND,
                "name": resource.metadata.name,
                "uid": resource.metadata.uid,
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ],
    }


def stage_job(resource: FineTuneJob, action: CreateJob, parts: Parts, platform: Platform) -> Json:
    """The Job of one attempt of a stage: one try, its end decided by its first bad pod."""
    name = job_name(resource.metadata.name, action.stage, action.attempt)
    metadata = owned_metadata(resource, name)
    stage = str(action.stage)
    metadata["labels"] |= {LABEL_STAGE: stage, LABEL_ATTEMPT: str(action.attempt)}
    metadata["labels"][LABEL_COMPONENT] = stage
    metadata["annotations"] = {
        ANNOTATION_PLAN_HASH: hash_for(action.plan, action.stage),
        ANNOTATION_TEMPLATE_HASH: template_hash(resource, action.stage),
    }
    template = {
        "metadata": {
            "labels": dict(metadata["labels"]),
            "annotations": dict(metadata["annotations"]),
        },
        "spec": _pod(resource, action, parts, platform),
    }
    # Of the Job alone: pods with such a label Kueue would queue one by one.
    queue = queue_labels(resource.metadata.labels)
    metadata["labels"] |= queue
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata,
        "spec": {
            # The operator owns attempts: a Job would restart one pod, where all must restart.
            "backoffLimit": 0,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {"rules": _fail_on_first_bad_pod(stage)},
            # Kueue starts it; whether it is there nobody here knows.
            **({"suspend": True} if queue else {}),
            **parts.job,
            "template": template,
        },
    }


def loss_volume(action: CreateJob) -> tuple[list[Json], list[Json]]:
    """A user's code: for `train`, which runs it and holds no token that it could use, and for
    `prepare`, which reads it.
    """
    reference = action.plan.run["training"].get("loss", {}).get("configMapRef")
    if reference is None:
        return [], []
    volume = {"name": "loss", "configMap": {"name": reference["name"]}}
    return [volume], [{"name": "loss", "mountPath": LOSS_DIRECTORY, "readOnly": True}]


def token_volume(use: str, secret: SecretKeyRef | None) -> tuple[list[Json], list[Json]]:
    """Volume and mount of a Hub token; none without a Secret: then the stage is anonymous."""
    if secret is None:
        return [], []
    volume = {
        "name": f"{use}-token",
        "secret": {
            "secretName": secret.name,
            "items": [{"key": secret.key, "path": "token"}],
            # Readable for the pod's group only, which fsGroup makes the file's group.
            "defaultMode": 0o440,
        },
    }
    mount = {"name": f"{use}-token", "mountPath": f"{SECRETS}/{use}", "readOnly": True}
    return [volume], [mount]


def hub_env(settings: Settings) -> list[Json]:
    """The Hub's address, for stages that talk to it."""
    return [env("HF_ENDPOINT", settings.hub_endpoint)] if settings.hub_endpoint else []


def env(name: str, value: str) -> Json:
    """One environment variable."""
    return {"name": name, "value": value}


OFFLINE = env("HF_HUB_OFFLINE", "1")

# Requests only: the work of these stages grows with the model, and a limit would be a guess.
HELPER_RESOURCES: Json = {"requests": {"cpu": "500m", "memory": "1Gi"}}


def _fail_on_first_bad_pod(container: str) -> list[Json]:
    return [
        {
            "action": "FailJob",
            "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
        },
        {
            "action": "FailJob",
            "onExitCodes": {
                "containerName": container,
                "operator": "NotIn",
                "values": [ExitCode.SUCCEEDED],
            },
        },
    ]


def _pod(resource: FineTuneJob, action: CreateJob, parts: Parts, platform: Platform) -> Json:
    name, trainer = resource.metadata.name, resource.spec.trainer
    claim = claim_of(name, resource.spec.storage.claim_name)
    pod: Json = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": parts.grace_seconds,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            # A workspace of many files would be walked through at every pod start.
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(resource, action, parts)],
        "volumes": [
            {
                "name": "run",
                "configMap": {
                    "name": plan_name(name, hash_for(action.plan, action.stage)),
                    "items": [{"key": "run.json", "path": "run.json"}],
                },
            },
            {"name": WORKSPACE, "persistentVolumeClaim": {"claimName": claim}},
            {"name": "tmp", "emptyDir": {"sizeLimit": SCRATCH}},
            *parts.volumes,
        ],
        **_scheduling(resource, platform),
        **parts.pod,
    }
    if trainer.image_pull_secrets:
        pod["imagePullSecrets"] = [{"name": ref.name} for ref in trainer.image_pull_secrets]
    return pod


def _container(resource: FineTuneJob, action: CreateJob, parts: Parts) -> Json:
    trainer = resource.spec.trainer
    container: Json = {
        "name": str(action.stage),
        "image": action.plan.trainer_image,
        "args": [str(action.stage)],
        "env": [
            env("FINETUNE_STAGE", str(action.stage)),
            env("FINETUNE_ATTEMPT", str(action.attempt)),
            env("HF_HOME", "/tmp/hf"),
            env("HOME", "/tmp"),
            *parts.env,
        ],
        "volumeMounts": [
            {"name": "run", "mountPath": RUN_DIRECTORY, "readOnly": True},
            {"name": WORKSPACE, "mountPath": WORKSPACE_DIRECTORY},
            {"name": "tmp", "mountPath": "/tmp"},
            *parts.mounts,
        ],
        "resources": dict(parts.resources),
        "terminationMessagePolicy": "File",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
    }
    if parts.ports:
        container["ports"] = list(parts.ports)
    if trainer.image_pull_policy:
        container["imagePullPolicy"] = str(trainer.image_pull_policy)
    return container


def _scheduling(resource: FineTuneJob, platform: Platform) -> Json:
    # All stages share the volume, and where the first pod runs may decide where the volume lives.
    fields = resource.spec.scheduling.model_dump(mode="json", by_alias=True, exclude_none=True)
    fields.pop("runtimeClassName", None)
    if platform.node_selector:
        fields["nodeSelector"] = {**platform.node_selector, **fields.get("nodeSelector", {})}
    if platform.priority_class:
        fields.setdefault("priorityClassName", platform.priority_class)
    return fields
