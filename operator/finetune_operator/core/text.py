"""Text that the API server accepts in a status whatever it was: one line, cut to a bound, without
what looks like a credential.

What a sentence says is made where the facts are known.
"""

from __future__ import annotations

import math
import re
from typing import Any

# An event takes no more, and status, condition and event say the same. A status full of sentences
# of this length stays below 64 KiB.
SENTENCE_BYTES = 1024
SHORT_BYTES = 256
METRIC_BYTES = 64
# The largest whole number that every JSON reader keeps exact.
WHOLE_LIMIT = 2**53


# A Hub's token, a bearer's, and the password of an address: pods fail with messages of others.
_CREDENTIAL = re.compile(
    r"\bhf_[A-Za-z0-9]{16,}|(?<=[Bb]earer )[A-Za-z0-9._~+/=-]{16,}|(?<=://)[^\s/:@]+:[^\s/@]+(?=@)"
)


def sentence(text: Any, ending: str = "") -> str:
    """One line for people; the ending stays whole, whatever must be cut."""
    return _cut(one_line(text), SENTENCE_BYTES - len(ending.encode())) + ending


def short(text: Any) -> str | None:
    """A path, a name, an address; None when there is none."""
    return _cut(one_line(text), SHORT_BYTES) or None if text is not None else None


def metric(value: Any) -> str:
    """A metric as people read it; NaN and infinity are words like others."""
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return _cut(one_line(text), METRIC_BYTES)


def whole(value: Any) -> int | None:
    """A count, also from its text; None when it is none."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    if isinstance(value, bool) or not math.isfinite(number) or not 0 <= number <= WHOLE_LIMIT:
        return None
    return int(number)


def one_line(text: Any) -> str:
    """What can be printed of the text, on one line; what looks like a credential is not."""
    # Lone surrogates are valid JSON, but no UTF-8.
    valid = str(text).encode("utf-8", "replace").decode()
    printable = "".join(char if char.isprintable() else " " for char in valid)
    return _CREDENTIAL.sub("[redacted]", " ".join(printable.split()))


def _cut(text: str, limit: int) -> str:
    data = text.encode()
    if len(data) <= limit:
        return text
    ellipsis = "…"
    return data[: limit - len(ellipsis.encode())].decode("utf-8", "ignore") + ellipsis
