"""Which run the present task works on: lines of the log tell it as fields (shell/logs.py).

Every asyncio task has a value of its own.
"""

from __future__ import annotations

from contextvars import ContextVar

from finetune_operator.runtime.store import Key

run: ContextVar[Key | None] = ContextVar("run", default=None)
