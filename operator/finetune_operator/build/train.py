"""The Job of `train`: one pod a node, all started together, offline; the only one with GPUs."""

from __future__ import annotations

from finetune_operator.api.resource import FineTuneJob
from finetune_operator.build.common import (
    OFFLINE,
    SECRETS,
    Json,
    Parts,
    env,
    loss_volume,
    stage_job,
)
from finetune_operator.core.model import CreateJob, Settings
from finetune_operator.core.naming import (
    leader_host,
    plan_name,
    progress_audience,
    progress_path,
    service_name,
)
from finetune_operator.core.quantity import parse_quantity

MASTER_PORT = 29500
# Of rank 0's /metrics.
METRICS_PORT = 9400
# SIGTERM asks for a checkpoint: weights and optimizer of a large model take a while to write.
GRACE_SECONDS = 120
DEFAULT_SHARED_MEMORY = "1Gi"
# The kubelet renews the token in time; the shortest life that it may have is ten minutes.
TOKEN_SECONDS = 3600
COMPLETION_INDEX = "metadata.annotations['batch.kubernetes.io/job-completion-index']"


def train_job(resource: FineTuneJob, action: CreateJob, settings: Settings) -> Json:
    """The Indexed Job of one training attempt."""
    nodes = action.plan.run["resources"]["nodes"]
    pod: Json = {}
    if nodes > 1:
        pod["subdomain"] = service_name(resource.metadata.name)
    if runtime_class := resource.spec.scheduling.runtime_class_name:
        pod["runtimeClassName"] = runtime_class
    shared_memory = resource.spec.resources.shared_memory or DEFAULT_SHARED_MEMORY
    progress_env, progress_volumes, progress_mounts = _progress(resource, action, settings)
    loss_volumes, loss_mounts = loss_volume(action)
    return stage_job(
        resource,
        action,
        Parts(
            env=[
                OFFLINE,
                *_ranks(resource, action),
                env("FINETUNE_STALL_SECONDS", str(resource.spec.run_policy.stall_seconds)),
                env("FINETUNE_METRICS_PORT", str(METRICS_PORT)),
                *_allow_cpu(settings),
                *progress_env,
            ],
            ports=[{"name": "metrics", "containerPort": METRICS_PORT}],
            volumes=[
                {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": shared_memory}},
                *progress_volumes,
                *loss_volumes,
            ],
            mounts=[{"name": "shm", "mountPath": "/dev/shm"}, *progress_mounts, *loss_mounts],
            resources=_resources(resource, action),
            pod=pod,
            job={"completionMode": "Indexed", "completions": nodes, "parallelism": nodes},
            grace_seconds=GRACE_SECONDS,
        ),
        settings.platform,
    )


def _ranks(resource: FineTuneJob, action: CreateJob) -> list[Json]:
    planned, cpu = action.plan.run["resources"], resource.spec.resources.cpu
    host = leader_host(resource.metadata.name, action.attempt, planned["nodes"])
    variables = [
        env("FINETUNE_NODES", str(planned["nodes"])),
        {
            "name": "FINETUNE_NODE_RANK",
            "valueFrom": {"fieldRef": {"fieldPath": COMPLETION_INDEX}},
        },
        env("FINETUNE_PROCESSES_PER_NODE", str(max(1, planned["gpusPerNode"]))),
        env("FINETUNE_MASTER_ADDR", host),
        env("FINETUNE_MASTER_PORT", str(MASTER_PORT)),
    ]
    if cpu:
        variables.append(env("FINETUNE_CPUS", str(max(1, int(parse_quantity(cpu))))))
    return variables


def _allow_cpu(settings: Settings) -> list[Json]:
    return [env("FINETUNE_ALLOW_CPU", "true")] if settings.allow_cpu else []


def _resources(resource: FineTuneJob, action: CreateJob) -> Json:
    asked, gpus = resource.spec.resources, action.plan.run["resources"]["gpusPerNode"]
    limits: dict[str, str] = {}
    if gpus:
        limits[asked.gpu_resource_name] = str(gpus)
    if asked.cpu:
        limits["cpu"] = asked.cpu
    if asked.memory:
        limits["memory"] = asked.memory
    return {"limits": limits, "requests": dict(limits)} if limits else {}


def _progress(
    resource: FineTuneJob, action: CreateJob, settings: Settings
) -> tuple[list[Json], list[Json], list[Json]]:
    if settings.progress_url is None:
        return [], [], []
    name, namespace = resource.metadata.name, resource.metadata.namespace
    folder = f"{SECRETS}/progress"
    sources: list[Json] = [
        {
            "serviceAccountToken": {
                "audience": progress_audience(namespace, name),
                "expirationSeconds": TOKEN_SECONDS,
                "path": "token",
            }
        }
    ]
    url = settings.progress_url.rstrip("/") + progress_path(namespace, name)
    variables = [
        env("KUBEFLOW_TRAINER_SERVER_URL", url),
        env("KUBEFLOW_TRAINER_SERVER_TOKEN", f"{folder}/token"),
    ]
    if settings.progress_ca is not None:
        sources.append(
            {
                "configMap": {
                    "name": plan_name(name, action.plan.hash),
                    "items": [{"key": "ca.crt", "path": "ca.crt"}],
                    # A plan that was pinned while there was no endpoint does not have it.
                    "optional": True,
                }
            }
        )
        variables.append(env("KUBEFLOW_TRAINER_SERVER_CA_CERT", f"{folder}/ca.crt"))
    volume = {"name": "progress", "projected": {"sources": sources, "defaultMode": 0o440}}
    return variables, [volume], [{"name": "progress", "mountPath": folder, "readOnly": True}]
