import pytest

from finetune_operator.core.model import JobState, Waiting
from finetune_operator.core.moments import to_text
from finetune_operator.core.waiting import describe, given_up
from finetune_operator.vocabulary import FailureReason, Stage
from unit.operator.builders import NOW, job, later

STUCK = job("train", state=JobState.WAITING, start_time=to_text(NOW))


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
    ],
)
def test_a_wait_is_one_sentence(waiting: Waiting, sentence: str) -> None:
    assert describe(Stage.TRAIN, waiting) == sentence


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
    failure = given_up(STUCK, Waiting(reason, "Said."), later(seconds))
    assert (failure.reason if failure else None) == expected


def test_a_job_that_runs_or_stops_is_not_given_up() -> None:
    for state in (JobState.RUNNING, JobState.DELETING, JobState.SUSPENDED):
        other = job("train", state=state, start_time=to_text(NOW))
        assert given_up(other, Waiting("ErrImagePull", ""), later(999)) is None
