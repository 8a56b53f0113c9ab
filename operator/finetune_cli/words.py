"""Numbers, times and states as people read them."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any

from finetune_operator.vocabulary import Phase

STYLES = {
    str(Phase.SUCCEEDED): "green",
    str(Phase.FAILED): "bold red",
    str(Phase.SUSPENDED): "yellow",
    str(Phase.PENDING): "dim",
}


def phase_style(phase: str) -> str:
    """The colour of a phase; what works is cyan."""
    return STYLES.get(phase, "cyan")


def span(seconds: float | None) -> str:
    """A span of time: 45s, 3m12s, 2h05m, 3d4h; a dash when it is not known."""
    if seconds is None:
        return "-"
    whole = max(0, int(seconds))
    minutes, rest = divmod(whole, 60)
    hours, minutes_left = divmod(minutes, 60)
    days, hours_left = divmod(hours, 24)
    if days:
        return f"{days}d{hours_left}h"
    if hours:
        return f"{hours}h{minutes_left:02d}m"
    if minutes:
        return f"{minutes}m{rest:02d}s"
    return f"{whole}s"


def between(start: datetime | None, end: datetime | None) -> str:
    """How long that took."""
    return span((end - start).total_seconds()) if start and end else "-"


def number(text: Any, digits: int = 4) -> str:
    """A number of the status in few digits, from a thousand on a whole one; what is none stays as
    it is.
    """
    try:
        value = float(text)
    except (TypeError, ValueError):
        return str(text) if text is not None else "-"
    return f"{value:,.0f}" if 1000 <= abs(value) < math.inf else f"{value:.{digits}g}"


def count(value: Any) -> str:
    """A large count: 950, 12.3k, 134.5M, 7.2B."""
    try:
        rest = float(value)
    except (TypeError, ValueError):
        return "-"
    for unit in ("", "k", "M", "B"):
        if rest < 1000 or unit == "B":
            return f"{rest:.1f}{unit}" if unit else f"{rest:.0f}"
        rest /= 1000
    return "-"
