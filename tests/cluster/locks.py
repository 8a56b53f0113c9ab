"""Mutual exclusion between processes: two `up` at once, two builds of the same binary."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster import progress


@contextmanager
def exclusive(path: Path, what: str) -> Iterator[None]:
    """Hold the lock file at `path`; wait, with a word about it, while another process does.

    The kernel drops the lock when its holder dies, so a killed run leaves nothing to clean up.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with progress.step(f"waiting for another process to finish: {what}"):
                fcntl.flock(handle, fcntl.LOCK_EX)
        yield
