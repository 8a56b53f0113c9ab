import pytest

from finetune_operator.core.failure import deleted, explain
from finetune_operator.core.model import Termination
from finetune_operator.vocabulary import FailureReason, Stage
from unit.operator.builders import ended, job

SAID = "The trainer's own words."


@pytest.mark.parametrize(
    ("left", "reason"),
    [
        (ended(10), FailureReason.USER_ERROR),
        (ended(11), FailureReason.RETRYABLE),
        (ended(12), FailureReason.OUT_OF_MEMORY),
        (ended(13), FailureReason.PREEMPTED),
        (ended(14), FailureReason.NON_FINITE_LOSS),
        (ended(1), FailureReason.CRASHED),
        (ended(139), FailureReason.CRASHED),
        (ended(137, container_reason="OOMKilled"), FailureReason.OUT_OF_MEMORY),
        (ended(137, pod_reason="Evicted"), FailureReason.EVICTED),
        (ended(143, pod_reason="EvictionByEvictionAPI"), FailureReason.EVICTED),
        (ended(137, pod_reason="PreemptionByScheduler"), FailureReason.DISRUPTED),
        (ended(None, pod_reason="DeletionByPodGC"), FailureReason.DISRUPTED),
        (ended(None), FailureReason.DISRUPTED),
        # What the trainer says of itself goes before what the cluster did to it.
        (ended(13, pod_reason="EvictionByEvictionAPI"), FailureReason.PREEMPTED),
        (ended(10, pod_reason="Evicted"), FailureReason.USER_ERROR),
    ],
)
def test_the_reason_is_the_most_certain_one(left: Termination, reason: FailureReason) -> None:
    assert explain(job("train"), left).reason is reason


@pytest.mark.parametrize("code", [1, 10, 11, 12, 13, 14, 137])
def test_the_trainers_own_sentence_is_kept_word_for_word(code: int) -> None:
    assert explain(job("train"), ended(code, SAID)).message == SAID


@pytest.mark.parametrize(
    ("stage", "left", "message"),
    [
        (
            "train",
            ended(137, container_reason="OOMKilled"),
            "train was killed for using more memory than its limit: raise spec.resources.memory, "
            "or lower spec.training.sequenceLength, or set spec.training.gradientCheckpointing.",
        ),
        (
            "merge",
            ended(137, container_reason="OOMKilled"),
            "merge was killed because memory ran out: let spec.scheduling choose a node with more "
            "memory, or raise the limit that the namespace sets.",
        ),
        (
            "train",
            ended(137, pod_reason="Evicted", pod_message="The node was low on memory."),
            "The pod of train was evicted: The node was low on memory.",
        ),
        (
            "train",
            ended(137, pod_reason="DeletionByTaintManager"),
            "The pod of train was stopped by the cluster (DeletionByTaintManager).",
        ),
        (
            "upload",
            ended(None),
            "The pods of Job demo-upload-1 are gone, deleted or lost with their node, before they "
            "could tell how they ended.",
        ),
        (
            "train",
            ended(139),
            "train ended with exit code 139 (SIGSEGV) and no explanation; "
            "kubectl logs job/demo-train-1 says more.",
        ),
        (
            "train",
            ended(135),
            "train ended with exit code 135 (SIGBUS) and no explanation (often /dev/shm is too "
            "small: raise spec.resources.sharedMemory); kubectl logs job/demo-train-1 says more.",
        ),
        (
            "prepare",
            ended(128, container_reason="StartError", pod_message="no such file: /entry"),
            "prepare ended with exit code 128 and no explanation; "
            "kubectl logs job/demo-prepare-1 says more: no such file: /entry",
        ),
        ("train", ended(250), "train ended with exit code 250 and no explanation; "
            "kubectl logs job/demo-train-1 says more."),
    ],
)  # fmt: skip
def test_without_one_a_sentence_is_made_that_names_the_remedy(
    stage: str, left: Termination, message: str
) -> None:
    assert explain(job(stage), left).message == message


def test_a_job_deleted_by_hand_is_named() -> None:
    failure = deleted("demo-train-1", Stage.TRAIN)
    assert failure.message == "Job demo-train-1 was deleted while train was running."
