"""What an API call can fail with, by what the caller can do about it. Nothing here retries.

The server's own sentence is kept: it names the field, the quota or the right that is missing.
"""

from __future__ import annotations

import json
import re
from typing import Any

# A webhook that gives no code is answered with 400, a ValidatingAdmissionPolicy with 422.
_BY_POLICY = re.compile(r"admission webhook .* denied|ValidatingAdmissionPolicy .* denied", re.S)


class ApiError(Exception):
    """An API call failed; the message is the server's, or says that there was no answer."""

    def __init__(self, message: str, *, status: int = 0, reason: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.reason = reason


class NotFound(ApiError):
    """The object, its namespace or its resource type does not exist."""


class AlreadyExists(ApiError):
    """An object of this name is there already."""


class Conflict(ApiError):
    """The object changed since it was read: decide again on what it is now."""


class Denied(ApiError):
    """Missing rights, a quota or an admission policy."""


class Invalid(ApiError):
    """The server does not accept the object as it is; the same object fails again."""


class Transient(ApiError):
    """Overload, restart, network or an expired token: the same call may succeed later."""

    def __init__(
        self, message: str, *, status: int = 0, reason: str = "", retry_after: float | None = None
    ) -> None:
        super().__init__(message, status=status, reason=reason)
        self.retry_after = retry_after


def from_answer(status: int, body: bytes, retry_after: str | None = None) -> ApiError:
    """The error that an answer of 400 or more stands for."""
    document = _status_object(body)
    message = str(document.get("message") or body[:500].decode(errors="replace") or status)
    reason = str(document.get("reason") or "")
    if status == 409:
        kind = AlreadyExists if reason == "AlreadyExists" else Conflict
        return kind(message, status=status, reason=reason)
    # 401: a token that has just expired is read again before the next try. 410: so did a list's
    # token; the list is made again from its start.
    if status in (401, 408, 410, 429, 500, 502, 503, 504):
        seconds = retry_after or (document.get("details") or {}).get("retryAfterSeconds")
        return Transient(message, status=status, reason=reason, retry_after=_seconds(seconds))
    if status == 403 or _BY_POLICY.search(message):
        return Denied(message, status=status, reason=reason)
    if status == 404:
        return NotFound(message, status=status, reason=reason)
    return Invalid(message, status=status, reason=reason)


def _status_object(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _seconds(value: Any) -> float | None:
    try:
        return min(float(value), 60.0)
    except (TypeError, ValueError):
        return None
