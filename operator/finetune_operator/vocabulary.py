"""Words that more than one module must agree on: the API group, labels, stages, phases, reasons.

No logic. Messages for people are made where the facts are known.
"""

from __future__ import annotations

from enum import StrEnum

GROUP = "finetune.dev"
VERSION = "v1alpha1"
KIND = "FineTuneJob"
PLURAL = "finetunejobs"
SINGULAR = "finetunejob"
SHORT_NAME = "ftj"
API_VERSION = f"{GROUP}/{VERSION}"

MANAGER = "finetune-operator"
TRAINER = "finetune-trainer"

# Kubernetes' recommended labels; app.kubernetes.io/instance is left to Helm and Argo CD.
LABEL_NAME = "app.kubernetes.io/name"
LABEL_COMPONENT = "app.kubernetes.io/component"
LABEL_PART_OF = "app.kubernetes.io/part-of"
LABEL_MANAGED_BY = "app.kubernetes.io/managed-by"
LABEL_RUN = f"{GROUP}/run"
LABEL_STAGE = f"{GROUP}/stage"
LABEL_ATTEMPT = f"{GROUP}/attempt"
ANNOTATION_PLAN_HASH = f"{GROUP}/plan-hash"
ANNOTATION_TEMPLATE_HASH = f"{GROUP}/template-hash"
# The only one that users set, on a FineTuneJob.
ANNOTATION_CHECKPOINT = f"{GROUP}/checkpoint-requested-at"

CONTRACT_VERSION = "v1alpha1"


class Stage(StrEnum):
    """A step of the run: a Job of its own. The value is the trainer's verb and part of names."""

    PREPARE = "prepare"
    TRAIN = "train"
    MERGE = "merge"
    UPLOAD = "upload"


class Phase(StrEnum):
    """One word for people, derived from conditions and stages."""

    PENDING = "Pending"
    PREPARING = "Preparing"
    TRAINING = "Training"
    MERGING = "Merging"
    UPLOADING = "Uploading"
    SUSPENDED = "Suspended"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


PHASE_OF_STAGE = {
    Stage.PREPARE: Phase.PREPARING,
    Stage.TRAIN: Phase.TRAINING,
    Stage.MERGE: Phase.MERGING,
    Stage.UPLOAD: Phase.UPLOADING,
}


class StageState(StrEnum):
    """Where a stage stands."""

    PENDING = "Pending"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


class ConditionType(StrEnum):
    """Condition types of a FineTuneJob; one per stage is added (`Prepared`, `Trained`, …)."""

    READY = "Ready"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    SUSPENDED = "Suspended"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"
    PREPARED = "Prepared"
    TRAINED = "Trained"
    MERGED = "Merged"
    UPLOADED = "Uploaded"


CONDITION_OF_STAGE = {
    Stage.PREPARE: ConditionType.PREPARED,
    Stage.TRAIN: ConditionType.TRAINED,
    Stage.MERGE: ConditionType.MERGED,
    Stage.UPLOAD: ConditionType.UPLOADED,
}


class FailureReason(StrEnum):
    """Why an attempt of a stage ended without success. Values go into conditions and events."""

    USER_ERROR = "UserError"
    RETRYABLE = "Retryable"
    OUT_OF_MEMORY = "OutOfMemory"
    PREEMPTED = "Preempted"
    NON_FINITE_LOSS = "NonFiniteLoss"
    EVICTED = "Evicted"
    DISRUPTED = "Disrupted"
    POD_FAILED = "PodFailed"
    IMAGE_PULL = "ImagePull"
    JOB_DELETED = "JobDeleted"
    CRASHED = "Crashed"


class RefusalReason(StrEnum):
    """Why a run does not start or does not go on: something was refused, or a name is taken.

    Whether the run waits then or has failed is told by the refusal itself (`Refusal.final`).
    """

    NOT_ALLOWED = "NotAllowed"
    INVALID = "Invalid"
    DENIED = "Denied"
    UNAVAILABLE = "Unavailable"
    NAME_COLLISION = "NameCollision"
    STILL_DELETING = "StillDeleting"
    CLAIM_NOT_FOUND = "ClaimNotFound"
    CLAIM_UNFIT = "ClaimUnfit"
    CLAIM_CANNOT_GROW = "ClaimCannotGrow"
    PLAN_LOST = "PlanLost"
    ATTEMPTS_USED_UP = "AttemptsUsedUp"


class WaitReason(StrEnum):
    """What the operator itself says of a stage that waits, or was asked for what it cannot do;
    besides, Kubernetes' own words are passed on (Unschedulable, FailedMount, …).
    """

    POD_STARTING = "PodStarting"
    POD_STUCK = "PodStuck"
    CLAIM_MISSING = "ClaimMissing"
    CLAIM_LOST = "ClaimLost"
    STOPPING = "Stopping"
    RETRYING = "Retrying"
    UNNAMED = "Waiting"
    CHECKPOINT_REQUEST_INVALID = "CheckpointRequestInvalid"


class EventReason(StrEnum):
    """Events that are no change for the worse, and the operator's own fault, which changes nothing;
    others bear a reason, a condition's type or a phase.
    """

    STARTED = "Started"
    RETRYING = "Retrying"
    RESUMED = "Resumed"
    INTERNAL_ERROR = "InternalError"


class ExitCode:
    """The stage contract's exit codes (docs/stage-contract.md)."""

    SUCCEEDED = 0
    USER_ERROR = 10
    RETRYABLE = 11
    OUT_OF_MEMORY = 12
    PREEMPTED = 13
    NON_FINITE_LOSS = 14
