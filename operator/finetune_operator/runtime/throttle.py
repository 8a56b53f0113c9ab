"""When a changed status is written: transitions at once, mere progress every ten seconds, the last
one of a run that was suspended at once. Pure.

Progress is also what a stage waits for: the words of a message change more often than its meaning.
"""

from __future__ import annotations

from typing import Any

from finetune_operator.vocabulary import Phase

Json = dict[str, Any]

PROGRESS_SECONDS = 10.0
PROGRESS_FIELDS = ("progress", "metrics", "memory", "message")
LISTS_WITH_MESSAGES = ("conditions", "stages")
WORDS = ("message", "reason")


def delay_of_write(old: Json, new: Json, since_last: float | None) -> float:
    """Seconds to wait before `new` replaces `old`; `since_last` is the age of the last write."""
    if since_last is None or _essence(old) != _essence(new):
        return 0.0
    if new.get("phase") == Phase.SUSPENDED and old.get("progress") != new.get("progress"):
        return 0.0
    return max(0.0, PROGRESS_SECONDS - since_last)


def _essence(status: Json) -> Json:
    """The status without what may change without a transition."""
    essence = {field: value for field, value in status.items() if field not in PROGRESS_FIELDS}
    for field in LISTS_WITH_MESSAGES:
        entries = status.get(field, [])
        essence[field] = [
            {name: value for name, value in entry.items() if name not in WORDS} for entry in entries
        ]
    return essence
