"""What a person sees while waiting: one line per finished step, a heartbeat for a long one.

Everything goes to stderr, so that the output of a verb stays usable in scripts.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

FIRST_HEARTBEAT_SECONDS = 5.0
LONGEST_SILENCE_SECONDS = 30.0
QUICK_SECONDS = 0.5


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def elapsed(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{int(seconds) // 60} min {int(seconds) % 60:02d} s"


@contextmanager
def step(
    title: str, *, detail: Callable[[], str] = lambda: "", quiet_below: float = 0.0
) -> Iterator[None]:
    """Name a piece of work, say every few seconds that it goes on, and how long it took.

    `quiet_below` keeps a step that found nothing to do from being reported at all.
    """
    start = time.monotonic()
    finished = threading.Event()

    def beat() -> None:
        silence = FIRST_HEARTBEAT_SECONDS
        while not finished.wait(silence):
            silence = min(2 * silence, LONGEST_SILENCE_SECONDS)
            more = detail()
            spent = elapsed(time.monotonic() - start)
            say(f"  ...   {title}, {spent}{': ' + more if more else ''}")

    thread = threading.Thread(target=beat, name="progress", daemon=True)
    thread.start()
    try:
        yield
    except BaseException:
        say(f"  FAIL  {title}, {elapsed(time.monotonic() - start)}")
        raise
    finally:
        finished.set()
        thread.join()
    spent_seconds = time.monotonic() - start
    if spent_seconds >= quiet_below:
        say(f"  ok    {title}, {elapsed(spent_seconds)}")
