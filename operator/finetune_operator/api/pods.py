"""What the pods ask for and where they run: `spec.resources`, `spec.storage`,
`spec.scheduling` and `spec.trainer`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from finetune_operator.api.affinity import Affinity
from finetune_operator.api.schema import ApiModel, Cel
from finetune_operator.api.values import Cpu, LocalRef, ObjectName, ResourceName, Size


class Resources(ApiModel):
    """What the training pods ask for."""

    nodes: int = Field(default=1, ge=1, le=512, description="Training pods, one a node.")
    gpus_per_node: int = Field(
        default=0, ge=0, le=64, description="GPUs of each training pod; 0 trains on CPU."
    )
    gpu_resource_name: ResourceName = Field(
        default="nvidia.com/gpu", description="Name of the GPU resource."
    )
    cpu: Cpu | None = Field(
        default=None, description='CPUs of each training pod (request and limit), for example "8".'
    )
    memory: Size | None = Field(
        default=None,
        description='Memory of each training pod (request and limit), for example "64Gi".',
    )
    shared_memory: Size | None = Field(
        default=None,
        description="Size of /dev/shm in each training pod; it counts as memory. Default: 1Gi.",
    )


class AccessMode(StrEnum):
    """Access mode of the workspace's claim."""

    READ_WRITE_ONCE = "ReadWriteOnce"
    READ_WRITE_MANY = "ReadWriteMany"


class Reclaim(StrEnum):
    """What becomes of the workspace's claim when the FineTuneJob is deleted."""

    DELETE = "Delete"
    RETAIN = "Retain"


class Storage(ApiModel):
    """The workspace: the volume that all stages share."""

    cel: ClassVar[tuple[Cel, ...]] = (
        Cel(
            "!has(self.claimName) || !(has(self.size) || has(self.storageClassName) || "
            "has(self.accessMode))",
            "claimName uses a claim as it is: remove size, storageClassName and accessMode, or "
            "remove claimName",
            forbidden=True,
        ),
    )

    size: Size | None = Field(
        default=None, description="Size of the claim that is made. Default: 50Gi."
    )
    storage_class_name: ObjectName | None = Field(
        default=None,
        description="Storage class of the claim. Default: the cluster's default class.",
    )
    access_mode: AccessMode | None = Field(
        default=None,
        description="Access mode of the claim. Default: ReadWriteOnce for one node, "
        "ReadWriteMany for more.",
    )
    claim_name: ObjectName | None = Field(
        default=None,
        description="An existing claim to use instead; it must be empty or from the same run.",
    )
    reclaim: Reclaim = Field(
        default=Reclaim.DELETE,
        description="Delete removes the claim with the FineTuneJob, Retain keeps it.",
    )


class Toleration(ApiModel):
    """As in a pod."""

    key: str | None = Field(default=None, max_length=253, description="Taint key.")
    operator: Literal["Exists", "Equal"] | None = Field(
        default=None, description="Exists or Equal."
    )
    value: str | None = Field(default=None, max_length=253, description="Taint value.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        default=None, description="Taint effect."
    )
    toleration_seconds: int | None = Field(
        default=None, ge=0, le=2**53, description="How long a NoExecute taint is tolerated."
    )


PriorityClass = Annotated[
    ObjectName,
    Cel(
        "!self.startsWith('system-')",
        "priorityClassName may not start with system-, which is for what keeps the cluster itself "
        "running: name a PriorityClass made for workloads, or remove priorityClassName",
    ),
]


class Scheduling(ApiModel):
    """Where the pods may run; every stage gets it, because they share a volume."""

    node_selector: dict[str, Annotated[str, Field(max_length=253)]] | None = Field(
        default=None, max_length=32, description="Labels that a node must have."
    )
    tolerations: list[Toleration] | None = Field(
        default=None, max_length=32, description="Taints that are tolerated."
    )
    affinity: Affinity | None = Field(
        default=None, description="A pod's affinity, as in v1 PodSpec."
    )
    priority_class_name: PriorityClass | None = Field(
        default=None,
        description="Priority class of the pods.",
    )
    runtime_class_name: ObjectName | None = Field(
        default=None,
        description="Runtime class of the training pods.",
    )
    scheduler_name: ObjectName | None = Field(
        default=None,
        description="Scheduler of the pods.",
    )


class PullPolicy(StrEnum):
    """When a node pulls the image."""

    ALWAYS = "Always"
    IF_NOT_PRESENT = "IfNotPresent"
    NEVER = "Never"


class RunPolicy(ApiModel):
    """How a run is kept going."""

    stall_seconds: int = Field(
        default=3600,
        ge=60,
        le=86_400,
        description="Training that gets no further for so long ends and is tried again; the "
        "message names the process that holds it up. It must be longer than any forward and "
        "backward pass. May change at any time, for attempts that start later.",
    )


class Trainer(ApiModel):
    """The image that runs the stages."""

    image: str | None = Field(
        default=None,
        min_length=1,
        max_length=512,
        description="Trainer image; any that keeps the stage contract. Default: the operator's.",
    )
    image_pull_policy: PullPolicy | None = Field(
        default=None, description="When nodes pull the image. Default: as Kubernetes decides."
    )
    image_pull_secrets: list[LocalRef] | None = Field(
        default=None, max_length=8, description="Secrets to pull the image with."
    )
