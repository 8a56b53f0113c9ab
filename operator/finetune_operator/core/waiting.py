"""What a Job waits for whose pods do not start or do not stop, in words; which waits are given up.

Most waits end by someone's hand or by other work that ends, so they may last; those for an image
hold GPUs and almost never end well.
"""

from __future__ import annotations

from datetime import datetime

from finetune_operator.api.resource import FineTuneJob
from finetune_operator.core.failure import Failure
from finetune_operator.core.model import JobRecord, JobState, Waiting
from finetune_operator.core.moments import seconds_since
from finetune_operator.core.text import sentence
from finetune_operator.vocabulary import FailureReason, Stage, WaitReason

# A registry's hiccup is over by then, and kubelet has tried about eight times.
IMAGE_PATIENCE = 300.0
# Beyond the grace period: a kubelet that is alive has killed the pod and said so by then.
STOP_PATIENCE = 60.0

STARTING, STOPPING = WaitReason.POD_STARTING, "PodStopping"
"""Reasons of waits in which no obstacle is to be seen."""
STUCK = WaitReason.POD_STUCK
"""Reason of a run that waits for a pod that does not stop."""

_INVALID_IMAGE = "InvalidImageName"
_NO_IMAGE = frozenset({"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull"})


def reason(waiting: Waiting) -> str:
    """One word for programs; those for an image change with every try, so they are one."""
    if waiting.reason in _NO_IMAGE:
        return str(FailureReason.IMAGE_PULL)
    return str(waiting.reason or WaitReason.UNNAMED)


def describe(resource: FineTuneJob, stage: Stage, waiting: Waiting) -> str:
    """The sentence of a run whose current stage waits for its pods to start."""
    if waiting.reason == STARTING:
        return (
            f"{stage} waits for its pod to start: the image is being pulled or the volume attached."
        )
    if waiting.reason in _NO_IMAGE:
        return sentence(
            f"{stage} waits for its image: {_remedy(resource)}: {waiting.message or waiting.reason}"
        )
    return sentence(f"{stage} waits: {waiting.message or waiting.reason}")


def stuck(stage: Stage, waiting: Waiting | None, now: datetime) -> str | None:
    """The sentence of a run whose pod should be gone by now and is not; None before that."""
    if waiting is None or waiting.reason != STOPPING or waiting.since is None:
        return None
    if seconds_since(waiting.since, now) < STOP_PATIENCE:
        return None
    return sentence(
        f"{stage} waits: {waiting.message} does not stop. Is the node lost? If it is, remove the "
        "Node object or delete the pod with --force: nothing else may write to the volume before."
    )


def given_up(
    resource: FineTuneJob, job: JobRecord, waiting: Waiting, now: datetime
) -> Failure | None:
    """The failure that this wait has become, if it has."""
    if job.state is not JobState.WAITING:
        return None
    if waiting.reason == _INVALID_IMAGE:
        return Failure(
            FailureReason.USER_ERROR,
            sentence(f"{_setting(resource)} is not the name of an image: {waiting.message}"),
        )
    if waiting.reason not in _NO_IMAGE or waiting.since is None:
        return None
    if seconds_since(waiting.since, now) < IMAGE_PATIENCE:
        return None
    return Failure(
        FailureReason.IMAGE_PULL,
        sentence(
            f"The image of {job.stage} could not be pulled: {_remedy(resource)}: "
            f"{waiting.message or waiting.reason}"
        ),
    )


def _setting(resource: FineTuneJob) -> str:
    """Where the image's name was set."""
    own = resource.spec.trainer.image is not None
    return "spec.trainer.image" if own else "FINETUNE_TRAINER_IMAGE, a setting of the operator,"


def _remedy(resource: FineTuneJob) -> str:
    return f"check {_setting(resource).rstrip(',')} and spec.trainer.imagePullSecrets"
