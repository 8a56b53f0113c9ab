"""Mutual exclusion between processes: two `up` at once, two builds of the same binary."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from cluster import progress


def exclusive(path: Path, what: str) -> AbstractContextManager[None]:
    """Hold the lock file at `path`; wait, with a word about it, while another process does."""
    return _held(path, what, fcntl.LOCK_EX)


def shared(path: Path, what: str) -> AbstractContextManager[None]:
    """Hold it together with others who share it, while nobody has it exclusively."""
    return _held(path, what, fcntl.LOCK_SH)


@contextmanager
def _held(path: Path, what: str, how: int) -> Iterator[None]:
    # The kernel drops the lock when its holder dies, so a killed run leaves nothing to clean up.
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, how | fcntl.LOCK_NB)
        except BlockingIOError:
            with progress.step(f"waiting for another process to finish: {what}"):
                fcntl.flock(handle, how)
        yield
