"""Keys that wait for a worker: each once, never in two workers, failed ones after a growing delay.

The rules are those of client-go's work queue, and that nobody's flood holds up the others: groups
of keys take turns, and urgent keys leave a place for the rest. What a key means is not known here.
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
URGENT_IN_A_ROW = 8
"""So many urgent keys go first; then one that is not."""


class _Line(Generic[K]):
    """Waiting keys; the groups take turns, in a group the first comes first."""

    def __init__(self, group: Callable[[K], Hashable]) -> None:
        self._group = group
        self._groups: OrderedDict[Hashable, OrderedDict[K, float]] = OrderedDict()

    def __contains__(self, key: K) -> bool:
        return key in self._groups.get(self._group(key), ())

    def __bool__(self) -> bool:
        return bool(self._groups)

    def __len__(self) -> int:
        return sum(map(len, self._groups.values()))

    def add(self, key: K, since: float) -> None:
        self._groups.setdefault(self._group(key), OrderedDict())[key] = since

    def remove(self, key: K) -> float:
        group = self._group(key)
        since = self._groups[group].pop(key)
        if not self._groups[group]:
            del self._groups[group]
        return since

    def pop(self) -> tuple[K, float]:
        group, keys = next(iter(self._groups.items()))
        key, since = keys.popitem(last=False)
        if keys:
            self._groups.move_to_end(group)
        else:
            del self._groups[group]
        return key, since


def _untold(_: float) -> None:
    """Nobody counts."""


class Queue(Generic[K]):
    """A queue of keys for the workers of one event loop; `waited` is told how long a key waited."""

    def __init__(
        self,
        *,
        group: Callable[[K], Hashable],
        jitter: Callable[[], float] = random.random,
        waited: Callable[[float], None] = _untold,
    ) -> None:
        self._jitter = jitter
        self._waited = waited
        self._urgent, self._normal = _Line(group), _Line(group)
        self._urgent_in_a_row = 0
        # Keys in a worker since when, and whether they came again meanwhile (urgently or not).
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
        if key in self._urgent or (key in self._normal and not urgent):
            return
        if key in self._normal:
            since = self._normal.remove(key)
        else:
            since = self._now()
            self._ready.release()
        (self._urgent if urgent else self._normal).add(key, since)

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
        key, since = self._next()
        now = self._processing[key] = self._now()
        self._waited(now - since)
        return key

    def done(self, key: K) -> None:
        """The worker has finished with the key, with or without success."""
        del self._processing[key]
        urgent = self._again.pop(key, None)
        if urgent is not None:
            self.add(key, urgent=urgent)

    def waiting(self) -> int:
        """Keys that wait for a worker; those that wait for their delay to pass do not count."""
        return len(self._urgent) + len(self._normal)

    def urgent_waiting(self) -> bool:
        return bool(self._urgent)

    def held(self) -> float:
        """Seconds for which a worker has held its key, the longest; 0 when all are idle."""
        return self._now() - min(self._processing.values()) if self._processing else 0.0

    def close(self) -> None:
        """Cancel the timers."""
        for key in tuple(self._timers):
            self._cancel_timer(key)

    def _next(self) -> tuple[K, float]:
        if self._urgent and not (self._normal and self._urgent_in_a_row >= URGENT_IN_A_ROW):
            self._urgent_in_a_row += 1
            return self._urgent.pop()
        self._urgent_in_a_row = 0
        return self._normal.pop()

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
