"""How a stage ends: exit codes, errors that carry one, and the termination message.

The codes are the contract's (docs/stage-contract.md). Which error is which outcome is decided where
it is raised; foreign exceptions are classified here, in one place.
"""

from __future__ import annotations

import errno
import json
import os
import sys
import traceback
from bisect import bisect_right
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path
from typing import Any

from finetune_trainer.workspace import Workspace, write_json

TERMINATION_LOG = "/dev/termination-log"
TERMINATION_LIMIT = 4096

_FULL = (errno.ENOSPC, errno.EDQUOT)


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


class RetryableError(StageError):
    """Something outside failed; trying again can help."""


class PreemptedError(StageError):
    """Asked to stop; the state is saved in a checkpoint."""

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
    try:
        message, result = body()
        outcome = Outcome.SUCCEEDED
    except Exception as error:
        outcome, message, result = classify(error), describe(error), {}
        if not isinstance(error, StageError):
            traceback.print_exc()
        print(f"{stage}: {outcome.label}: {message}", file=sys.stderr, flush=True)
    document = {"stage": stage, "outcome": outcome.label, "message": message, "result": result}
    # In `train` several pods end; the first one's result is the stage's.
    if os.environ.get("FINETUNE_NODE_RANK", "0") == "0":
        _write_result(workspace.result(stage), document)
    write_termination_message(document)
    return int(outcome)


def _write_result(path: Path, document: dict[str, Any]) -> None:
    try:
        write_json(path, document)
    except OSError as error:
        # A full or lost volume must not hide how the stage ended: the termination log says it.
        print(f"cannot write {path}: {error}", file=sys.stderr, flush=True)


def classify(error: BaseException) -> Outcome:
    """The outcome that an exception stands for."""
    if isinstance(error, StageError):
        return error.outcome
    if _memory_is_full(error):
        return Outcome.OUT_OF_MEMORY
    if _volume_is_full(error):
        return Outcome.USER_ERROR
    return Outcome.RETRYABLE


def _memory_is_full(error: BaseException) -> bool:
    """Whether host or accelerator had no room; torch's CPU allocator says so in its text alone."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "DefaultCPUAllocator" in str(error)
    )


def _volume_is_full(error: BaseException) -> bool:
    """Whether a write failed for want of space, also where a library hides that in its text."""
    if isinstance(error, OSError):
        return error.errno in _FULL
    # safetensors and tokenizers write by themselves, in Rust.
    return any(f"(os error {number})" in str(error) for number in _FULL)


def describe(error: BaseException) -> str:
    """One sentence for a person."""
    if isinstance(error, StageError):
        return str(error)
    if _volume_is_full(error):
        return "The workspace volume is full: set spec.storage.size to a larger size."
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def write_termination_message(document: dict[str, Any], path: str | None = None) -> None:
    """Write `document` to the termination log, its message shortened to fit 4096 bytes."""
    where = Path(path or os.environ.get("FINETUNE_TERMINATION_LOG", TERMINATION_LOG))
    message, result = document["message"], document["result"]

    def encode(characters: int) -> bytes:
        shortened = {**document, "message": message[:characters], "result": result}
        return json.dumps(shortened, ensure_ascii=False).encode("utf-8", "replace")

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
