import pytest

from finetune_operator.core.failure import completed, deleted, explain
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
        (ended(137, pod_reason="Evicted", disrupted=True), FailureReason.EVICTED),
        (
            ended(143, pod_reason="EvictionByEvictionAPI", disrupted=True),
            FailureReason.DISRUPTED,
        ),
        (ended(None, pod_reason="DeletionByPodGC", disrupted=True), FailureReason.DISRUPTED),
        (ended(None, disrupted=True), FailureReason.DISRUPTED),
        # A peer was stopped: that this one then failed is no failure of its own.
        (ended(11, disrupted=True), FailureReason.DISRUPTED),
        (ended(None, pod_reason="UnexpectedAdmissionError"), FailureReason.POD_FAILED),
        (ended(None), FailureReason.POD_FAILED),
        # What the trainer says of itself goes before what the cluster did to it.
        (ended(13, disrupted=True), FailureReason.PREEMPTED),
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
            ended(137, pod_reason="DeletionByTaintManager", disrupted=True),
            "The pod of train was stopped by the cluster (DeletionByTaintManager).",
        ),
        (
            "train",
            ended(None, disrupted=True),
            "The pod of train was stopped by the cluster: drained, preempted or lost with its "
            "node.",
        ),
        (
            "train",
            ended(None, pod_reason="UnexpectedAdmissionError", pod_message="no GPU"),
            "The pod of train failed (UnexpectedAdmissionError): no GPU",
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
            "train",
            ended(137, container_reason="Error"),
            "train ended with exit code 137 (SIGKILL) and no explanation (often because memory ran "
            "out); kubectl logs job/demo-train-1 says more.",
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


EXITED = "Container stage for pod a/b failed with exit code 13 matching FailJob rule at index 1"
DRAINED = "Pod a/b has condition DisruptionTarget matching FailJob rule at index 0"


@pytest.mark.parametrize(
    ("told", "left", "reason"),
    [
        (EXITED, ended(None), FailureReason.PREEMPTED),
        (EXITED.replace("13", "1"), ended(None), FailureReason.CRASHED),
        (DRAINED, ended(None), FailureReason.DISRUPTED),
        # Pods that are still there know better how they ended, but not that a peer was drained.
        (EXITED, ended(1), FailureReason.CRASHED),
        (DRAINED, ended(11, "A peer went away."), FailureReason.DISRUPTED),
        (DRAINED, ended(10), FailureReason.USER_ERROR),
        ("Job has reached the specified backoff limit", ended(None), FailureReason.POD_FAILED),
    ],
)
def test_the_job_tells_of_a_pod_that_is_gone(
    told: str, left: Termination, reason: FailureReason
) -> None:
    record = job("train", message=told)
    assert explain(record, completed(record, left)).reason is reason
