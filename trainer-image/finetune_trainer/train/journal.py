"""What a run tells while it goes on: a line to read, a line of `history.jsonl`, and other outlets;
and what it is asked for where it tells.

Only rank 0 has a journal that writes. How values are computed belongs to the recipe.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from finetune_trainer.duration import duration
from finetune_trainer.workspace import json_lines, json_text


class Outlet(Protocol):
    """Where values go besides the log. `put` returns at once, whatever becomes of them."""

    def put(
        self, step: int, total_steps: int, metrics: Mapping[str, float], eta_seconds: float | None
    ) -> None:
        """The values of one logged step, by the names of the progress protocol."""
        ...


class Journal:
    """What one run tells; nothing where it is not `active`."""

    def __init__(
        self,
        history: Path,
        outlets: Sequence[Outlet],
        *,
        active: bool,
        saved: Callable[[int], None] = lambda step: None,
        requested: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._history = history
        self._outlets = outlets
        self._active = active
        self._saved = saved
        self._requested = requested

    def say(self, text: str) -> None:
        """One line for whoever reads the log."""
        if self._active:
            print(text, flush=True)

    def saved(self, step: int) -> None:
        """What was trained up to `step` is safe from now on."""
        self._saved(step)

    def checkpoint_requested_at(self) -> str | None:
        """When somebody asked for a checkpoint, the last time; None if nobody has."""
        return self._requested()

    def resume_at(self, step: int, *, evaluated: bool) -> None:
        """Forget the history after `step`, which the run makes again; also the evaluation of `step`
        itself if that is made again.
        """
        self._keep(self._history, lambda line: _is_until(line, step, evaluated=evaluated))

    def forget_after(self, step: int, path: Path) -> None:
        """Forget the lines of steps after `step` in another file like the history."""
        self._keep(path, lambda line: _is_until(line, step, evaluated=True))

    def _keep(self, path: Path, wanted: Callable[[str], bool]) -> None:
        if not self._active or not path.exists():
            return
        kept = [line for line in json_lines(path) if wanted(line)]
        temporary = path.with_name(path.name + ".tmp")
        temporary.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
        temporary.replace(path)

    def record(
        self, step: int, total_steps: int, metrics: Mapping[str, float], eta: float | None
    ) -> None:
        """One logged step; `metrics` by the names of the progress protocol."""
        if not self._active:
            return
        with self._history.open("a", encoding="utf-8") as file:
            file.write(json_text({"step": step, "time": round(time.time(), 3), **metrics}) + "\n")
        for outlet in self._outlets:
            outlet.put(step, total_steps, metrics, eta)
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


def _is_until(line: str, step: int, *, evaluated: bool) -> bool:
    try:
        values = json.loads(line)
        if not evaluated and values["step"] == step and "eval_loss" in values:
            return False
        return int(values["step"]) <= step
    except (ValueError, KeyError, TypeError):
        return False  # cut off when a pod died while writing
