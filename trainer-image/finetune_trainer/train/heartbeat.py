"""A heartbeat per rank, and the end of a run that stands still: who holds it up, and where.

Every rank writes a small file now and then, from a thread, with how far it is. A rank that gets no
further for too long reads those of the others, names the one that did not come, dumps its own
Python stacks and ends, so that the run can be tried again. If even the thread cannot run, because a
library holds the interpreter, faulthandler's own timer does the same without the name.
"""

from __future__ import annotations

import faulthandler
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from finetune_trainer.outcome import RetryableError

T = TypeVar("T")

STALL_SECONDS = "FINETUNE_STALL_SECONDS"
# As long as the ranks wait for each other at all (see `parallel.py`).
DEFAULT_SECONDS = 3600.0
LONGEST_PERIOD = 10.0
# A rank whose file is older than so many periods is not even able to write it.
SILENT_PERIODS = 3.0
# Its descriptor: what `sys.stderr` is need not be a file.
STDERR = 2


@dataclass(frozen=True, slots=True)
class Sign:
    """What one rank's file tells: how many beats it has done, what it is doing, whether that may
    take its time, and how many seconds ago that was (by the volume's clock).
    """

    rank: int
    beats: int
    phase: str
    resting: bool
    age: float


def culprit(own: Sign, others: list[Sign], *, silent_after: float) -> str | None:
    """Who holds up a rank that stands still, in words; None if somebody is busy who may be.

    All ranks count the same beats, so whoever has done fewer did not come yet.
    """
    silent = [other for other in others if other.age > silent_after]
    behind = [other for other in others if other.beats < own.beats]
    if silent:
        names = ", ".join(f"rank {each.rank} (it was {each.phase})" for each in silent)
        return f"nothing is heard of {names}"
    if any(other.resting for other in behind):
        return None
    if behind:
        names = ", ".join(f"rank {each.rank} (it is {each.phase})" for each in behind)
        return f"{names} did not get as far as the others"
    return f"rank {own.rank} itself gets no further, {own.phase}"


class Heart:
    """One rank's heartbeat; it is written and watched while the context is entered."""

    def __init__(self, rank: int, world_size: int) -> None:
        self._rank, self._world_size = rank, world_size
        self._limit = float(os.environ.get(STALL_SECONDS) or DEFAULT_SECONDS)
        self._period = min(LONGEST_PERIOD, self._limit / 4)
        self._beats = 0
        self._phase = "starting"
        self._resting = True
        self._at = time.monotonic()

    @contextmanager
    def watched(self, directory: Path, end: Callable[[RetryableError], None]) -> Iterator[Heart]:
        """Write the sign into `directory`; call `end`, in a thread, with why nothing goes on."""
        directory.mkdir(parents=True, exist_ok=True)
        closed = threading.Event()
        thread = threading.Thread(
            target=self._watch, args=(directory, end, closed), name="heartbeat", daemon=True
        )
        thread.start()
        try:
            yield self
        finally:
            closed.set()
            thread.join(self._period)
            faulthandler.cancel_dump_traceback_later()

    def beat(self, phase: str) -> None:
        """One more place reached, the same on every rank; `phase` says what comes, as in
        `in step 3`.
        """
        self._phase, self._resting = phase, False
        self.tick()

    def tick(self) -> None:
        """The same where nothing else begins."""
        self._at = time.monotonic()
        self._beats += 1

    def rest(self, phase: str) -> None:
        """What comes may take its time, until the next beat."""
        self._phase, self._resting, self._at = phase, True, time.monotonic()

    def beating(self, phase: str, items: Iterable[T]) -> Iterator[T]:
        """The items, with a beat at each."""
        for item in items:
            self.beat(phase)
            yield item

    def _watch(
        self, directory: Path, end: Callable[[RetryableError], None], closed: threading.Event
    ) -> None:
        while True:
            # Again and again: it goes off only when this thread cannot run any more.
            faulthandler.dump_traceback_later(
                self._limit + 2 * self._period, exit=True, file=STDERR
            )
            others: list[Sign] = []
            try:
                self._write(directory)
                others = self._others(directory) if self._stands_still else []
            except OSError as error:
                print(f"rank {self._rank} has no heartbeat: {error}", file=sys.stderr, flush=True)
            if self._stands_still:
                self._look_for_the_cause(others, end)
            if closed.wait(self._period):
                return

    def _look_for_the_cause(
        self, others: list[Sign], end: Callable[[RetryableError], None]
    ) -> None:
        silent_after = SILENT_PERIODS * self._period
        why = culprit(self._own(age=0.0), others, silent_after=silent_after)
        if why is None:
            return
        print(f"rank {self._rank} stands still {self._phase}:", file=sys.stderr, flush=True)
        faulthandler.dump_traceback(file=STDERR, all_threads=True)
        end(
            RetryableError(
                f"Training has stood still for {self._limit:.0f} s "
                f"(spec.runPolicy.stallSeconds): {why}."
            )
        )

    @property
    def _stands_still(self) -> bool:
        return not self._resting and time.monotonic() - self._at >= self._limit

    def _own(self, *, age: float) -> Sign:
        return Sign(self._rank, self._beats, self._phase, self._resting, age)

    def _write(self, directory: Path) -> None:
        own = self._own(age=0.0)
        path = _path(directory, self._rank)
        temporary = path.with_suffix(".tmp")
        temporary.write_text(
            json.dumps({"beats": own.beats, "phase": own.phase, "resting": own.resting})
        )
        temporary.replace(path)

    def _others(self, directory: Path) -> list[Sign]:
        now = _path(directory, self._rank).stat().st_mtime
        ranks = (rank for rank in range(self._world_size) if rank != self._rank)
        return [_read(directory, rank, now) for rank in ranks]


def _path(directory: Path, rank: int) -> Path:
    return directory / f"heartbeat-{rank}.json"


def _read(directory: Path, rank: int, now: float) -> Sign:
    path = _path(directory, rank)
    try:
        values = json.loads(path.read_bytes())
        age = now - path.stat().st_mtime
        return Sign(rank, values["beats"], values["phase"], values["resting"], age)
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        # Of a former attempt that a power cut ended it may be there, and empty.
        return Sign(rank, 0, "never there", False, float("inf"))
