"""Numbers out of stages' results, in which any may be missing or be text, worded for a reader."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def number(values: Mapping[str, Any], key: str) -> float | None:
    """A finite number, which results hold as number or string."""
    try:
        found = float(values[key])
    except (KeyError, TypeError, ValueError):
        return None
    return found if math.isfinite(found) else None


def share(values: Mapping[str, Any], part: str, whole: str) -> str | None:
    """`3 of 4 (75.00%)`."""
    some, every = number(values, part), number(values, whole)
    if some is None:
        return None
    return f"{some:,.0f}" + (f" of {every:,.0f} ({some / every:.2%})" if every else "")


def with_unit(values: Mapping[str, Any], key: str, unit: str) -> str | None:
    """`12,345 tokens`."""
    found = number(values, key)
    return f"{found:,.0f} {unit}".rstrip() if found is not None else None
