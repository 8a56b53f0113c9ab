"""One contestant's process: it trains when told, so that exactly one computes at a time.

The protocol is in runners/pace.py. What is trained does not belong here.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SILENCE_SECONDS = 900.0
LAST_WORDS_SECONDS = 2.0


class ContestantError(RuntimeError):
    """It ended or fell silent; the message is one line."""


@dataclass(frozen=True, slots=True)
class Step:
    """One optimizer step, counted from 1."""

    number: int
    seconds: float


class Session:
    """A live process; `go` lets it take steps.

    Args:
        directory: an empty one of its own, where it runs and logs. Caches of compilers are there
            too, so that the time to the first step is that of a fresh pod.
    """

    def __init__(self, command: list[str], variables: dict[str, str], directory: Path) -> None:
        self.losses: dict[int, float] = {}
        self.first_step_seconds: float | None = None
        self._ram_bytes = 0
        self._accelerator_bytes = 0
        self._log = directory / "log"
        self._events: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._started = time.time()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                cwd=directory,
                env={
                    **os.environ,
                    "TORCHINDUCTOR_CACHE_DIR": str(directory / "inductor"),
                    "TRITON_CACHE_DIR": str(directory / "triton"),
                    "HF_HUB_OFFLINE": "1",
                    "HF_DATASETS_CACHE": str(directory / "datasets"),
                    "TOKENIZERS_PARALLELISM": "false",
                    **variables,
                },
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            self._await_waiting()
        except BaseException:
            self.close()
            raise

    def go(self, steps: int) -> list[Step]:
        """Let it take `steps` steps, or what is left of its training.

        Raises:
            ContestantError: it ended with an error, or without having taken a step.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"go {steps}\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise ContestantError(self._last_words()) from error
        return self._await_waiting()

    @property
    def peak_bytes(self) -> int:
        """The most memory that training has held: the accelerator's if there is one, else RAM."""
        return self._accelerator_bytes or self._ram_bytes

    def close(self) -> None:
        """End the process: it tells its last loss, or it has that second in vain."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(LAST_WORDS_SECONDS)
        self._process.kill()
        self._process.wait()
        self._reader.join()
        while not self._events.empty():
            event = self._events.get()
            if event is not None and event["event"] == "loss":
                self.losses[event["step"]] = event["loss"]

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            # What a library printed before the runner took the channel is no event.
            if line.startswith('{"event"'):
                self._events.put(json.loads(line))
        self._events.put(None)

    def _await_waiting(self) -> list[Step]:
        steps: list[Step] = []
        while True:
            try:
                event = self._events.get(timeout=SILENCE_SECONDS)
            except queue.Empty as error:
                raise ContestantError(f"no step within {SILENCE_SECONDS:.0f} s") from error
            match event:
                case None:
                    if self._process.wait() == 0 and steps:
                        return steps
                    raise ContestantError(self._last_words())
                case {"event": "waiting"}:
                    self._see_memory()
                    return steps
                case {"event": "loss", "step": number, "loss": loss}:
                    self.losses[number] = loss
                case {"event": "step", "step": number, "seconds": seconds, "at": at}:
                    if self.first_step_seconds is None:
                        self.first_step_seconds = at - self._started
                    self._accelerator_bytes = event.get("gpuPeakBytes", 0)
                    steps.append(Step(number, seconds))

    def _see_memory(self) -> None:
        # The process's own: helpers that compile are not counted.
        for line in Path(f"/proc/{self._process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                self._ram_bytes = int(line.split()[1]) * 1024

    def _last_words(self) -> str:
        code = self._process.wait()
        lines = [line.strip() for line in self._log.read_text(errors="replace").splitlines()]
        said = next((line for line in reversed(lines) if line), "no word")
        return f"exit code {code}: {said[:160]}"
