"""Keys that wait for a worker: each once, never in two workers, failed ones after a growing delay.

The rules are those of client-go's work queue. What a key means is not known here.
"""

from __future__ import annotations

import asyncio
import random
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

FIRST_DELAY = 0.05
LONGEST_DELAY = 300.0


class Queue(Generic[K]):
    """A queue of keys for the workers of one event loop."""

    def __init__(self, *, jitter: Callable[[], float] = random.random) -> None:
        self._jitter = jitter
        # Waiting keys with the time since when; urgent ones go first.
        self._urgent: OrderedDict[K, float] = OrderedDict()
        self._normal: OrderedDict[K, float] = OrderedDict()
        # Keys in a worker, and whether they came again meanwhile (urgently or not).
        self._processing: dict[K, float] = {}
        self._again: dict[K, bool] = {}
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._failures: dict[K, int] = {}
        self._ready = asyncio.Semaphore(0)

    def add(self, key: K, *, urgent: bool = False) -> None:
        """Have the key looked at; at once if a worker is free."""
        if key in self._processing:
            self._again[key] = self._again.get(key, False) or urgent
            return
        self._cancel_timer(key)
        if key in self._urgent:
            return
        since = self._normal.pop(key, None)
        target = self._urgent if urgent else self._normal
        target[key] = self._now() if since is None else since
        if since is None:
            self._ready.release()

    def add_after(self, key: K, delay: float) -> None:
        """Have the key looked at after `delay` seconds, or earlier if it is due earlier anyway."""
        if key in self._urgent or key in self._normal or key in self._again:
            return
        due = self._now() + delay
        timer = self._timers.get(key)
        if timer is not None and timer.when() <= due:
            return
        self._cancel_timer(key)
        self._timers[key] = asyncio.get_running_loop().call_at(due, self._fire, key)

    def retry(self, key: K, *, at_least: float = 0.0) -> float:
        """Have a key looked at again that failed; the delay, which grows with every failure."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        delay = float(min(LONGEST_DELAY, FIRST_DELAY * 2 ** min(failures, 30)))
        delay = max(delay * (0.5 + self._jitter() / 2), at_least)
        self.add_after(key, delay)
        return delay

    def forget(self, key: K) -> None:
        """The key did not fail: its next failure is a first one."""
        self._failures.pop(key, None)

    async def get(self) -> K:
        """The next key; it is the caller's until `done`."""
        await self._ready.acquire()
        source = self._urgent or self._normal
        key, _ = source.popitem(last=False)
        self._processing[key] = self._now()
        return key

    def done(self, key: K) -> None:
        """The worker has finished with the key, with or without success."""
        del self._processing[key]
        urgent = self._again.pop(key, None)
        if urgent is not None:
            self.add(key, urgent=urgent)

    def urgent_waiting(self) -> bool:
        return bool(self._urgent)

    def age(self) -> float:
        """Seconds since the longest waiting or longest held key came; 0 when idle."""
        times = [*self._urgent.values(), *self._normal.values(), *self._processing.values()]
        return self._now() - min(times) if times else 0.0

    def close(self) -> None:
        """Cancel the timers."""
        for key in tuple(self._timers):
            self._cancel_timer(key)

    def _fire(self, key: K) -> None:
        self._timers.pop(key, None)
        self.add(key)

    def _cancel_timer(self, key: K) -> None:
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
