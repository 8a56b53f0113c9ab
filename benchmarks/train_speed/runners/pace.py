"""What every contestant's process does around its training: go on when told, tell each step.

Runs in each peer's own environment, so it needs nothing but torch. The driver writes `go N` lines
to standard input; events come back as JSON lines on what was standard output, which is the
driver's alone: whatever libraries print goes to standard error. All contestants are timed by the
same hook, behind the optimizer's step, so nobody's own idea of a step counts.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook


class Pace:
    """The gate at the end of each optimizer step."""

    def __init__(self) -> None:
        self._events = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)
        sys.stdout = sys.stderr
        self._step = 0
        self._allowed = 0
        self._since = 0.0

    def start(self) -> None:
        """Wait for the first `go`, then time each step of whatever optimizer there is."""
        register_optimizer_step_post_hook(self._after_step)
        self._wait()

    def tell(self, event: str, **values: Any) -> None:
        """One event for the driver."""
        self._events.write(json.dumps({"event": event, **values}) + "\n")

    def _after_step(self, *_: object) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        now = time.perf_counter()
        self._step += 1
        self._allowed -= 1
        self.tell("step", step=self._step, seconds=now - self._since, at=time.time(), **_memory())
        if self._allowed <= 0:
            self._wait()
        self._since = time.perf_counter()

    def _wait(self) -> None:
        self.tell("waiting", step=self._step)
        line = sys.stdin.readline()
        if not line.startswith("go "):
            # Measured enough: what is trained is of no interest.
            self._events.flush()
            os._exit(0)
        self._allowed = int(line.split()[1])
        self._since = time.perf_counter()


def _memory() -> dict[str, int]:
    if torch.cuda.is_available():
        return {"gpuPeakBytes": int(torch.cuda.max_memory_allocated())}
    return {}
