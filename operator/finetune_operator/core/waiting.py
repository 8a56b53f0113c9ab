"""What a Job that does not run waits for, in words, and which waits are given up.

Most waits end by someone's hand or by other work that ends, so they may last; those for an image
hold GPUs and almost never end well.
"""

from __future__ import annotations

from datetime import datetime

from finetune_operator.core.failure import Failure
from finetune_operator.core.model import JobRecord, JobState, Waiting
from finetune_operator.core.moments import seconds_since
from finetune_operator.core.text import sentence
from finetune_operator.vocabulary import FailureReason, Stage

# A registry's hiccup is over by then, and kubelet has tried about eight times.
IMAGE_PATIENCE = 300.0

_INVALID_IMAGE = "InvalidImageName"
_NO_IMAGE = frozenset({"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull"})


def describe(stage: Stage, waiting: Waiting) -> str:
    """The sentence of a run whose current stage waits."""
    if waiting.reason in _NO_IMAGE:
        return sentence(
            f"{stage} waits for its image: check spec.trainer.image and "
            f"spec.trainer.imagePullSecrets: {waiting.message or waiting.reason}"
        )
    return sentence(f"{stage} waits: {waiting.message or waiting.reason}")


def given_up(job: JobRecord, waiting: Waiting, now: datetime) -> Failure | None:
    """The failure that this wait has become, if it has."""
    if job.state is not JobState.WAITING:
        return None
    if waiting.reason == _INVALID_IMAGE:
        return Failure(
            FailureReason.USER_ERROR,
            sentence(f"spec.trainer.image is not the name of an image: {waiting.message}"),
        )
    if waiting.reason not in _NO_IMAGE or job.start_time is None:
        return None
    if seconds_since(job.start_time, now) < IMAGE_PATIENCE:
        return None
    return Failure(
        FailureReason.IMAGE_PULL,
        sentence(
            f"The image of {job.stage} could not be pulled: check spec.trainer.image and "
            f"spec.trainer.imagePullSecrets: {waiting.message or waiting.reason}"
        ),
    )
