from typing import Any

import pytest

from finetune_operator.core.model import JobState, Waiting
from finetune_operator.core.moments import to_text
from finetune_operator.core.waiting import STARTING, STOPPING, describe, given_up, reason, stuck
from finetune_operator.vocabulary import FailureReason, Stage
from unit.operator.builders import NOW, job, later, resource

# A pod that has waited for a node for long, and found one just now.
STUCK = job("train", state=JobState.WAITING, start_time=to_text(later(-3600)))
OWN_IMAGE = resource(trainer={"image": "mine:1"})


@pytest.mark.parametrize(
    ("waiting", "sentence"),
    [
        (
            Waiting("Unschedulable", "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."),
            "train waits: 0/1 nodes are available: 1 Insufficient nvidia.com/gpu.",
        ),
        (
            Waiting("FailedMount", 'secret "hf" not found'),
            'train waits: secret "hf" not found',
        ),
        (Waiting("Odd", ""), "train waits: Odd"),
        (
            Waiting("ImagePullBackOff", 'Back-off pulling image "x:1"'),
            "train waits for its image: check spec.trainer.image and "
            'spec.trainer.imagePullSecrets: Back-off pulling image "x:1"',
        ),
        (
            Waiting(STARTING, ""),
            "train waits for its pod to start: the image is being pulled or the volume attached.",
        ),
    ],
)
def test_a_wait_is_one_sentence(waiting: Waiting, sentence: str) -> None:
    assert describe(OWN_IMAGE, Stage.TRAIN, waiting) == sentence


def test_who_has_set_the_image_is_told() -> None:
    pulled = describe(resource(), Stage.TRAIN, Waiting("ErrImagePull", "no such image"))
    assert pulled.startswith(
        "train waits for its image: check FINETUNE_TRAINER_IMAGE, a setting of the operator"
    )
    failure = given_up(resource(), STUCK, Waiting("InvalidImageName", "a:b:c"), NOW)
    assert failure is not None
    assert failure.message == (
        "FINETUNE_TRAINER_IMAGE, a setting of the operator, is not the name of an image: a:b:c"
    )


def test_the_tries_to_pull_an_image_are_one_reason() -> None:
    assert {reason(Waiting(word, "")) for word in ("ErrImagePull", "ImagePullBackOff")} == {
        "ImagePull"
    }
    assert reason(Waiting("Unschedulable", "")) == "Unschedulable"
    assert reason(Waiting("", "")) == "Waiting"


@pytest.mark.parametrize(
    ("reason", "seconds", "expected"),
    [
        ("Unschedulable", 10**6, None),
        ("FailedMount", 10**6, None),
        ("ImagePullBackOff", 299, None),
        ("ImagePullBackOff", 300, FailureReason.IMAGE_PULL),
        ("ErrImagePull", 300, FailureReason.IMAGE_PULL),
        ("ErrImageNeverPull", 300, FailureReason.IMAGE_PULL),
        ("InvalidImageName", 0, FailureReason.USER_ERROR),
    ],
)
def test_only_waits_for_an_image_are_given_up(
    reason: str, seconds: float, expected: FailureReason | None
) -> None:
    failure = given_up(OWN_IMAGE, STUCK, Waiting(reason, "Said.", to_text(NOW)), later(seconds))
    assert (failure.reason if failure else None) == expected


def test_patience_begins_when_the_pull_may() -> None:
    assert given_up(OWN_IMAGE, STUCK, Waiting("ErrImagePull", "", None), later(10**6)) is None


def test_a_job_that_runs_or_stops_is_not_given_up() -> None:
    waiting = Waiting("ErrImagePull", "", to_text(NOW))
    for state in (JobState.RUNNING, JobState.DELETING, JobState.SUSPENDED):
        other = job("train", state=state, start_time=to_text(NOW))
        assert given_up(OWN_IMAGE, other, waiting, later(999)) is None


@pytest.mark.parametrize(
    ("waiting", "seconds", "told"),
    [
        (None, 999, False),
        (Waiting("Unschedulable", "", to_text(NOW)), 999, False),
        (Waiting(STOPPING, "pod x on node n", to_text(NOW)), 59, False),
        (Waiting(STOPPING, "pod x on node n", to_text(NOW)), 60, True),
    ],
)
def test_a_pod_that_does_not_stop_is_told_once_it_should_have(
    waiting: Waiting | None, seconds: float, told: bool
) -> None:
    sentence: Any = stuck(Stage.TRAIN, waiting, later(seconds))
    assert bool(sentence) == told
    if told:
        assert sentence.startswith("train waits: pod x on node n does not stop. Is the node lost?")
