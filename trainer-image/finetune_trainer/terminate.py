"""SIGTERM in the stages that have nothing to finish first: it ends them at once.

The kernel drops a SIGTERM for which process 1 of a container has no handler, so that a deleted run
would hold its pod for the whole grace period. `train` saves a checkpoint first and has its own way
(`train/stop.py`).
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from finetune_trainer.outcome import PreemptedError, record_failure
from finetune_trainer.workspace import Workspace


@contextmanager
def ending_at_sigterm(stage: str, workspace: Workspace) -> Iterator[None]:
    """Let SIGTERM end the process with `Preempted`, recorded as the stage's end, while inside."""

    def end(signum: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        error = PreemptedError(f"{stage} was asked to stop; what is in the workspace is kept.")
        # No exception: libraries catch those, and their pools wait for downloads under way. Every
        # file that counts is written whole, so nothing is lost that a kill would not lose too.
        try:
            record_failure(stage, error, workspace)
            sys.stdout.flush()
        finally:
            os._exit(error.outcome)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
