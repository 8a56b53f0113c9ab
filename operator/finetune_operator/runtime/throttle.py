"""When a changed status is written: transitions at once, mere progress every ten seconds. Pure."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

PROGRESS_SECONDS = 10.0
PROGRESS_FIELDS = frozenset({"progress", "metrics", "memory"})


def delay_of_write(old: Json, new: Json, since_last: float | None) -> float:
    """Seconds to wait before `new` replaces `old`; `since_last` is the age of the last write."""
    changed = {field for field in old.keys() | new.keys() if old.get(field) != new.get(field)}
    if since_last is None or not changed <= PROGRESS_FIELDS:
        return 0.0
    return max(0.0, PROGRESS_SECONDS - since_last)
