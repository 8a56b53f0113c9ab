"""What every contestant's process does around its training: go on when told, tell each step.

Runs in each peer's own environment, so it needs nothing but torch. The driver writes `go N` lines
to standard input; events come back as JSON lines on what was standard output, which is the
driver's alone: whatever libraries print goes to standard error. All contestants are timed by the
same hook, behind the optimizer's step, so nobody's own idea of a step counts.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import sys
import time
from pathlib import Path
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
        self._ending = False

    def start(self) -> None:
        """Wait for the first `go`, then time each step of whatever optimizer there is."""
        register_optimizer_step_post_hook(self._after_step)
        self._wait()

    def tell(self, event: str, **values: Any) -> None:
        """One event for the driver."""
        self._events.write(json.dumps({"event": event, **values}) + "\n")

    def tell_loss(self, step: int, loss: float) -> None:
        """The loss of a finished step, which may be the last thing wanted."""
        self.tell("loss", step=step, loss=loss)
        if self._ending:
            os._exit(0)

    def _after_step(self, *_: object) -> None:
        if self._ending:
            os._exit(0)
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
        _make_room()
        self.tell("waiting", step=self._step)
        line = sys.stdin.readline()
        if not line.startswith("go "):
            # Measured enough. The loss of this step is still to come.
            self._ending = True
            return
        self._allowed = int(line.split()[1])
        self._since = time.perf_counter()


def _make_room() -> None:
    """Give freed memory back to the system where the others could want it.

    Not always: the next step has to ask for it again, which takes time.
    """
    lines = Path("/proc/meminfo").read_text().splitlines()
    kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    if kilobytes["MemAvailable"] < kilobytes["MemTotal"] / 3:
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)


def _memory() -> dict[str, int]:
    if torch.cuda.is_available():
        return {"gpuPeakBytes": int(torch.cuda.max_memory_allocated())}
    return {}
