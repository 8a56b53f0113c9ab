"""Which run the present task works on: lines of the log tell it as fields (shell/logs.py).

Every asyncio task has a value of its own.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Subject:
    """A FineTuneJob; `uid` tells it from another one of its name, None when it is gone."""

    namespace: str
    name: str
    uid: str | None


run: ContextVar[Subject | None] = ContextVar("run", default=None)
