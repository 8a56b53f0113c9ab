"""How fast it goes: step times since the process (re)started, and what they were spent on.

From them the time left, the throughput, and the share of the accelerator that is used. One rank's
clock; tokens are those of all ranks.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator
from typing import TypeVar

from finetune_trainer.data.examples import Examples
from finetune_trainer.train.batches import count_targets
from finetune_trainer.work import Work

T = TypeVar("T")

# Steps differ in length; over these the time left and the wait for data are averaged.
RECENT_STEPS = 50


class Pace:
    """`work` counts operations, `peak` is how many all accelerators together can do in a second;
    each where it is known.
    """

    def __init__(self, work: Work | None = None, peak: float | None = None) -> None:
        self._work, self._peak = work, peak
        self._recent: deque[float] = deque(maxlen=RECENT_STEPS)
        self._waits: deque[float] = deque(maxlen=RECENT_STEPS)
        self._waited = 0.0
        self._tokens = 0
        self._supervised = 0
        self._flops = 0.0
        self._seconds = 0.0

    def waiting(self, source: Iterable[T]) -> Iterator[T]:
        """The items of `source`; the time that they take to come counts as waiting for data."""
        iterator = iter(source)
        while True:
            started = time.perf_counter()
            try:
                item = next(iterator)
            except StopIteration:
                return
            finally:
                self._waited += time.perf_counter() - started
            yield item

    def add(self, examples: Examples, documents: list[int], seconds: float) -> None:
        """One step of all ranks over these documents took `seconds`."""
        lengths, supervised = examples.lengths[documents], count_targets(examples, documents)
        self._recent.append(seconds)
        self._waits.append(self._waited)
        self._waited = 0.0
        self._tokens += int(lengths.sum())
        self._supervised += supervised
        self._flops += self._work.flops(lengths, supervised) if self._work else 0.0
        self._seconds += seconds

    @property
    def tokens_per_second(self) -> float:
        """Mean over the steps of this process, all ranks together, evaluations not counted."""
        return self._tokens / self._seconds if self._seconds else 0.0

    @property
    def flops_utilization(self) -> float | None:
        """MFU: operations needed a second over those possible, in [0, 1]; None where unknown."""
        if not (self._peak and self._seconds and self._flops):
            return None
        return self._flops / self._seconds / self._peak

    def metrics(self) -> dict[str, float]:
        """The values for a logged step, by the names of the progress protocol."""
        found = {
            "tokens": float(self._tokens),
            "tokens_per_second": self.tokens_per_second,
            "supervised_tokens_per_second": self._supervised / self._seconds
            if self._seconds
            else 0.0,
            "data_wait_seconds": sum(self._waits) / max(1, len(self._waits)),
        }
        utilization = self.flops_utilization
        return found if utilization is None else {**found, "mfu": utilization}

    def eta_seconds(self, steps_left: int) -> float | None:
        """Time for `steps_left` more steps at the recent pace; None before the first."""
        if not self._recent:
            return None
        return steps_left * sum(self._recent) / len(self._recent)
