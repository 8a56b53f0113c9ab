"""What a run tells while it goes on: a line to read, a line of `history.jsonl`, and the progress
report.

Only rank 0 has a journal that writes. How values are computed belongs to the recipe.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path

from finetune_trainer.train.progress import Reporter
from finetune_trainer.workspace import json_text


class Pace:
    """Step times since the process (re)started: from them the time left and the throughput."""

    def __init__(self) -> None:
        self._recent: deque[float] = deque(maxlen=50)
        self._tokens = 0
        self._seconds = 0.0

    def add(self, tokens: int, seconds: float) -> None:
        """One step of `tokens` tokens over all ranks took `seconds`."""
        self._recent.append(seconds)
        self._tokens += tokens
        self._seconds += seconds

    @property
    def tokens_per_second(self) -> float:
        """Mean over the steps of this process, all ranks together, evaluations not counted."""
        return self._tokens / self._seconds if self._seconds else 0.0

    def eta_seconds(self, steps_left: int) -> float | None:
        """Time for `steps_left` more steps at the recent pace; None before the first."""
        if not self._recent:
            return None
        return steps_left * sum(self._recent) / len(self._recent)


class Journal:
    """The outlets of one run."""

    def __init__(self, history: Path, reporter: Reporter, *, active: bool) -> None:
        self._history = history
        self._reporter = reporter
        self._active = active

    def say(self, text: str) -> None:
        """One line for whoever reads the log."""
        if self._active:
            print(text, flush=True)

    def resume_at(self, step: int, *others: Path) -> None:
        """Forget lines of steps after `step`, in the history and in `others` like it: the run does
        those again.
        """
        if self._active:
            for path in (self._history, *others):
                _forget_after(step, path)

    def record(
        self, step: int, total_steps: int, metrics: Mapping[str, float], eta: float | None
    ) -> None:
        """One logged step; `metrics` by the names of the progress protocol."""
        if not self._active:
            return
        with self._history.open("a", encoding="utf-8") as file:
            file.write(json_text({"step": step, "time": round(time.time(), 3), **metrics}) + "\n")
        self._reporter.put(step, total_steps, metrics, eta)
        self.say(log_line(step, total_steps, metrics, eta))


def log_line(step: int, total_steps: int, metrics: Mapping[str, float], eta: float | None) -> str:
    """For example `step 12/200  loss 1.93  lr 1.9e-04  2,310 tok/s  ETA 3 min`."""
    parts = [f"step {step}/{total_steps}"]
    if "loss" in metrics:
        parts.append(f"loss {metrics['loss']:.4g}")
    for prefix, whose in (("base_eval_", " (base)"), ("eval_", "")):
        for name, value in metrics.items():
            if name.startswith(prefix):
                what = name.removeprefix(prefix).replace("_", " ")
                parts.append(f"validation {what} {value:.4g}{whose}")
    if "learning_rate" in metrics:
        parts.append(f"lr {metrics['learning_rate']:.1e}")
    if "tokens_per_second" in metrics:
        parts.append(f"{metrics['tokens_per_second']:,.0f} tok/s")
    if eta is not None:
        parts.append(f"ETA {duration(eta)}")
    return "  ".join(parts)


def duration(seconds: float) -> str:
    """A span of time for a person: `40 s`, `3 min`, `2.5 h`."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    if seconds < 99.5 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def _forget_after(step: int, path: Path) -> None:
    if not path.exists():
        return
    kept = [line for line in path.read_text().splitlines() if _is_until(line, step)]
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text("".join(f"{line}\n" for line in kept))
    temporary.replace(path)


def _is_until(line: str, step: int) -> bool:
    try:
        return int(json.loads(line)["step"]) <= step
    except (ValueError, KeyError, TypeError):
        return False  # cut off when a pod died while writing
