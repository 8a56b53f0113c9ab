"""How a stage ends: exit codes, errors that carry one, and the termination message.

The codes are the contract's (docs/stage-contract.md). Which error is which outcome is decided where
it is raised; foreign exceptions are classified here, in one place.
"""

from __future__ import annotations

import errno
import os
import sys
import traceback
from bisect import bisect_right
from collections.abc import Callable, Iterator
from enum import IntEnum
from pathlib import Path
from typing import Any

from finetune_trainer.stage_log import note
from finetune_trainer.workspace import Workspace, json_text, write_json

TERMINATION_LOG = "/dev/termination-log"
TERMINATION_LIMIT = 4096

_FULL = (errno.ENOSPC, errno.EDQUOT)
_TOO_LARGE = (errno.EFBIG,)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


class Outcome(IntEnum):
    """A stage's outcome; the value is the exit code."""

    SUCCEEDED = 0
    USER_ERROR = 10
    RETRYABLE = 11
    OUT_OF_MEMORY = 12
    PREEMPTED = 13
    NON_FINITE_LOSS = 14

    @property
    def label(self) -> str:
        return "".join(word.capitalize() for word in self.name.split("_"))


class StageError(Exception):
    """Base of the errors that end a stage with a known outcome; the message is one sentence."""

    outcome = Outcome.RETRYABLE


class UserError(StageError):
    """The input is wrong: the same input fails again. The message names field and remedy."""

    outcome = Outcome.USER_ERROR


class DefectError(StageError):
    """This code is wrong: the same input fails again, and the user can only report it.

    The contract has one code for what is not to be tried again, so it is told apart by its words.
    """

    outcome = Outcome.USER_ERROR

    def __init__(self, message: str) -> None:
        super().__init__(
            f"{message.rstrip('.')}; this is a defect of the trainer, which trying again does not "
            "mend: please report it."
        )


class RetryableError(StageError):
    """Something outside failed; trying again can help."""


class PreemptedError(StageError):
    """Asked to stop; what is done so far is kept (in `train`, by a checkpoint)."""

    outcome = Outcome.PREEMPTED


class NonFiniteLossError(StageError):
    """Loss or gradient became NaN or infinite."""

    outcome = Outcome.NON_FINITE_LOSS


Stage = Callable[[], tuple[str, dict[str, Any]]]


def run_stage(stage: str, body: Stage, workspace: Workspace) -> int:
    """Run `body`, record how it ended, and return the exit code.

    `body` returns a one-sentence summary and the stage's `result`; both go to the
    workspace and to the termination log.
    """
    note(stage, workspace)
    try:
        message, result = body()
    except Exception as error:
        return record_failure(stage, error, workspace)
    return _record(stage, Outcome.SUCCEEDED, message, result, workspace)


def record_failure(stage: str, error: Exception, workspace: Workspace) -> int:
    """Record that `error` ended the stage, and return the exit code."""
    outcome, message = classify(error), describe(error, stage)
    print_trace(error)
    print(f"{stage}: {outcome.label}: {message}", file=sys.stderr, flush=True)
    return _record(stage, outcome, message, {}, workspace)


def print_trace(error: Exception) -> None:
    """Print where `error` came from, unless its sentence says all there is to know."""
    known = (_is_full, _is_too_large, _forbidden)
    if not isinstance(error, StageError) and not any(
        is_it(link) for link in causes(error) for is_it in known
    ):
        traceback.print_exception(error)


def _record(
    stage: str, outcome: Outcome, message: str, result: dict[str, Any], workspace: Workspace
) -> int:
    document = {"stage": stage, "outcome": outcome.label, "message": message, "result": result}
    # In `train` several pods end; the first one's result is the stage's.
    if os.environ.get("FINETUNE_NODE_RANK", "0") == "0":
        _write_result(workspace.result(stage), document)
    write_termination_message(document)
    note(stage, workspace, outcome.label)
    return int(outcome)


def _write_result(path: Path, document: dict[str, Any]) -> None:
    try:
        write_json(path, document)
    except OSError as error:
        # A full or lost volume must not hide how the stage ended: the termination log says it.
        print(f"cannot write {path}: {error}", file=sys.stderr, flush=True)


def classify(error: BaseException) -> Outcome:
    """The outcome that an exception stands for, by the nearest of its causes that tells."""
    for link in causes(error):
        if isinstance(link, StageError):
            return link.outcome
        if _is_out_of_memory(link):
            return Outcome.OUT_OF_MEMORY
        if _is_full(link) or _is_too_large(link) or _forbidden(link):
            return Outcome.USER_ERROR
    return Outcome.RETRYABLE


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether host or accelerator had no room; torch's CPU allocator says so in its text alone."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "DefaultCPUAllocator" in str(error)
    )


def describe(error: BaseException, stage: str) -> str:
    """One sentence for a person, about what `classify` decided by."""
    for link in causes(error):
        if isinstance(link, StageError):
            return str(link)
        if _is_out_of_memory(link):
            return f"{stage} ran out of memory: {more_room(stage)}."
        if _is_full(link):
            return "The workspace volume is full: set spec.storage.size to a larger size."
        if _is_too_large(link):
            return (
                "The workspace's file system takes no file as large as one of this run: set "
                "spec.storage.storageClassName to a class whose file system does."
            )
        if what := _forbidden(link):
            return (
                f"{what}: name a claim in spec.storage.claimName that user {os.geteuid()} may "
                "write, or leave claimName out."
            )
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def more_room(stage: str) -> str:
    """What helps a stage that ran out of memory."""
    if stage == "train":
        return (
            "raise spec.resources.memory, lower spec.training.sequenceLength, or set "
            "spec.training.gradientCheckpointing"
        )
    return "let spec.scheduling choose a node with more memory, or raise the namespace's limit"


def causes(error: BaseException) -> Iterator[BaseException]:
    """`error` and what it came from, nearest first."""
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__ or link.__context__


def volume_is_full(error: BaseException) -> bool:
    """Whether a write failed for want of space, however deep a library wrapped that."""
    return any(map(_is_full, causes(error)))


def _is_full(error: BaseException) -> bool:
    return _has_number(error, _FULL)


def _is_too_large(error: BaseException) -> bool:
    return _has_number(error, _TOO_LARGE)


def _has_number(error: BaseException, numbers: tuple[int, ...]) -> bool:
    if isinstance(error, OSError) and error.errno in numbers:
        return True
    # safetensors and tokenizers write by themselves, in Rust.
    return any(f"(os error {number})" in str(error) for number in numbers)


def _forbidden(error: BaseException) -> str | None:
    """What of the workspace may not be read or written, as a clause; None if it is not that."""
    if not isinstance(error, OSError) or error.errno not in _FORBIDDEN:
        return None
    path, root = error.filename, Workspace.from_environment().root
    if not isinstance(path, str | Path) or not Path(path).is_relative_to(root):
        return None
    return f"{path} cannot be used ({os.strerror(error.errno)})"


def write_termination_message(document: dict[str, Any], path: str | None = None) -> None:
    """Write `document` to the termination log, its message shortened to fit 4096 bytes."""
    where = Path(path or os.environ.get("FINETUNE_TERMINATION_LOG", TERMINATION_LOG))
    message, result = document["message"], document["result"]

    def encode(characters: int) -> bytes:
        shortened = {**document, "message": message[:characters], "result": result}
        return json_text(shortened).encode("utf-8", "replace")

    if len(encode(0)) > TERMINATION_LIMIT:
        result = {}
    # The most characters that fit: how many bytes one takes depends on what it is.
    lengths = range(len(message) + 1)
    fitting = bisect_right(lengths, TERMINATION_LIMIT, key=lambda length: len(encode(length)))
    data = encode(fitting - 1)
    try:
        where.write_bytes(data)
    except OSError as error:
        print(f"cannot write {where}: {error}", file=sys.stderr, flush=True)
