"""Why an attempt failed: what its pods have left → a reason for programs and a sentence for people.

Whether the stage is tried again is decided in attempts.py.
"""

from __future__ import annotations

import dataclasses
import re
import signal
from dataclasses import dataclass

from finetune_operator.core.model import JobRecord, Termination
from finetune_operator.core.text import sentence
from finetune_operator.vocabulary import ExitCode, FailureReason, Stage

SIGNAL_BASE = 128

_BY_EXIT_CODE = {
    ExitCode.USER_ERROR: FailureReason.USER_ERROR,
    ExitCode.RETRYABLE: FailureReason.RETRYABLE,
    ExitCode.OUT_OF_MEMORY: FailureReason.OUT_OF_MEMORY,
    ExitCode.PREEMPTED: FailureReason.PREEMPTED,
    ExitCode.NON_FINITE_LOSS: FailureReason.NON_FINITE_LOSS,
}

# What a node under pressure says: the run may have used too much itself.
_EVICTED = "Evicted"

# How the Job controller tells which rule of the Job's podFailurePolicy its first bad pod has met.
_TOLD_EXIT_CODE = re.compile(r"failed with exit code (\d+) matching")
_TOLD_DISRUPTED = "has condition DisruptionTarget matching"


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong; `message` is what status, condition and event say."""

    reason: FailureReason
    message: str


def completed(job: JobRecord, left: Termination) -> Termination:
    """What pods have left, and what the Job tells of a pod that is gone.

    A pod that is drained or preempted is deleted: mostly nobody can read it any more, and what the
    others have left tells only that a peer went away.
    """
    disrupted = left.disrupted or _TOLD_DISRUPTED in job.message
    code = left.exit_code
    if left == Termination() and (told := _TOLD_EXIT_CODE.search(job.message)):
        code = int(told.group(1))
    return dataclasses.replace(left, exit_code=code, disrupted=disrupted)


def explain(job: JobRecord, termination: Termination) -> Failure:
    """The failure of a Job: the trainer's own sentence where there is one."""
    reason = _reason(termination)
    told = termination.document.get("message")
    return Failure(reason, sentence(told or _composed(reason, job, termination)))


def deleted(job_name: str, stage: Stage) -> Failure:
    """A Job that is gone though nobody here deleted it."""
    return Failure(
        FailureReason.JOB_DELETED, f"Job {job_name} was deleted while {stage} was running."
    )


def _reason(termination: Termination) -> FailureReason:
    # A code of the contract is the trainer's own word; it knows more than the pod's conditions.
    # Only what it could not help, a peer that went away say, may have its cause in the cluster.
    told = _BY_EXIT_CODE.get(termination.exit_code or 0)
    if told is not None and not (told is FailureReason.RETRYABLE and termination.disrupted):
        return told
    if termination.container_reason == "OOMKilled":
        return FailureReason.OUT_OF_MEMORY
    if termination.pod_reason == _EVICTED:
        return FailureReason.EVICTED
    if termination.disrupted:
        return FailureReason.DISRUPTED
    if termination.pod_reason or termination.exit_code is None:
        return FailureReason.POD_FAILED
    return FailureReason.CRASHED


def _composed(reason: FailureReason, job: JobRecord, left: Termination) -> str:
    stage, logs = job.stage, f"kubectl logs job/{job.name} says more"
    words = f": {left.pod_message}" if left.pod_message else "."
    match reason:
        case FailureReason.OUT_OF_MEMORY:
            return _out_of_memory(stage)
        case FailureReason.NON_FINITE_LOSS:
            return (
                f"The loss of {stage} is not a finite number: lower spec.training.learningRate "
                "or check the data."
            )
        case FailureReason.PREEMPTED:
            return f"{stage} was asked to stop; what it has saved is kept."
        case FailureReason.EVICTED:
            return f"The pod of {stage} was evicted{words}"
        case FailureReason.DISRUPTED if left.pod_reason:
            return f"The pod of {stage} was stopped by the cluster ({left.pod_reason}){words}"
        case FailureReason.DISRUPTED:
            return (
                f"The pod of {stage} was stopped by the cluster: drained, preempted or lost with "
                "its node."
            )
        case FailureReason.POD_FAILED if left.pod_reason:
            return f"The pod of {stage} failed ({left.pod_reason}){words}"
        case FailureReason.POD_FAILED:
            return (
                f"The pods of Job {job.name} are gone, deleted or lost with their node, before "
                "they could tell how they ended."
            )
    return f"{stage} ended with {_exit(left)} and no explanation{_hint(left)}; {logs}{words}"


def _out_of_memory(stage: Stage) -> str:
    if stage is Stage.TRAIN:
        return (
            "train was killed for using more memory than its limit: raise spec.resources.memory, "
            "or lower spec.training.sequenceLength, or set spec.training.gradientCheckpointing."
        )
    return (
        f"{stage} was killed because memory ran out: let spec.scheduling choose a node with more "
        "memory, or raise the limit that the namespace sets."
    )


def _exit(left: Termination) -> str:
    code = left.exit_code or 0
    if code > SIGNAL_BASE:
        try:
            return f"exit code {code} ({signal.Signals(code - SIGNAL_BASE).name})"
        except ValueError:
            pass
    return f"exit code {code}"


def _hint(left: Termination) -> str:
    if left.exit_code == SIGNAL_BASE + signal.SIGBUS:
        return " (often /dev/shm is too small: raise spec.resources.sharedMemory)"
    # The kernel's word that memory ran out may reach the kubelet after the container's end.
    if left.exit_code == SIGNAL_BASE + signal.SIGKILL:
        return " (often because memory ran out)"
    return ""
