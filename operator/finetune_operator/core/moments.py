"""Times as the API writes them: UTC, whole seconds. The clock itself is the caller's."""

from __future__ import annotations

from datetime import UTC, datetime


def to_text(moment: datetime) -> str:
    """As in 2026-01-31T12:00:00Z."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def seconds_since(text: str, now: datetime) -> float:
    """How long ago that was."""
    return (now - datetime.fromisoformat(text)).total_seconds()
