"""Numbers as people read them, and text that any data may hold made fit to be shown."""

from __future__ import annotations

import math
import re

# What a browser obeys or cannot show: controls but line ends and tabs, changes of direction, halves
# of characters, and characters that stand for nothing.
_UNFIT = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)
_OUTCOMES = {
    "Succeeded": "succeeded",
    "UserError": "ended by an error in the spec, data or model",
    "Retryable": "failed",
    "OutOfMemory": "ran out of memory",
    "Preempted": "stopped, its work kept",
    "NonFiniteLoss": "ended because the loss was not finite",
}


def shown(text: object, most: int = 4000) -> str:
    """`text`, at most `most` characters of it, each of them harmless."""
    whole = str(text)
    cut = whole if len(whole) <= most else f"{whole[:most]} … {len(whole) - most:,} more characters"
    return _UNFIT.sub("\N{REPLACEMENT CHARACTER}", cut)


def outcome_words(outcome: str | None) -> str:
    """How an attempt ended, as a clause without its subject."""
    return "ended without a word" if outcome is None else _OUTCOMES.get(outcome, shown(outcome, 40))


def significant(value: float) -> str:
    """Four digits that count: `2.134`, `0.0312`, `2e-4`, `12,300`."""
    if not math.isfinite(value) or value == 0:
        return "0" if value == 0 else "?"
    if value and (abs(value) < 1e-3 or abs(value) >= 1e9):
        return f"{value:.2e}".replace("e-0", "e-").replace("e+0", "e").replace(".00e", "e")
    digits = 4 - len(str(int(abs(value)))) if abs(value) >= 1 else 3
    return f"{value:,.{max(0, digits)}f}"


def count(value: float) -> str:
    """A whole number: `12,345`."""
    return f"{value:,.0f}"


def bytes_of_memory(value: float) -> str:
    """`1.2 GiB` or `340 MiB`."""
    return f"{value / 2**30:.1f} GiB" if value >= 2**30 else f"{value / 2**20:.0f} MiB"
