from __future__ import annotations

import pytest

from finetune_operator.kube.errors import ApiError, Conflict, Invalid, Transient
from finetune_operator.kube.retry import ATTEMPTS, LONGEST_DELAY, delay_before_retry

BUSY = Transient("busy")


@pytest.mark.parametrize(
    ("name", "error", "attempt", "jitter", "delay"),
    [
        ("the first retry comes soon", BUSY, 1, 0.0, 0.05),
        ("jitter spreads callers", BUSY, 1, 1.0, 0.1),
        ("the delay doubles", BUSY, 3, 1.0, 0.4),
        ("what the server asks for is the least", Transient("", retry_after=1), 1, 0.0, 1.0),
        ("a long wait is the queue's", Transient("", retry_after=30), 1, 0.0, None),
        ("the last attempt is the last", BUSY, ATTEMPTS, 0.0, None),
        ("a conflict needs a new decision", Conflict(""), 1, 0.0, None),
        ("what is invalid stays invalid", Invalid(""), 1, 0.0, None),
    ],
)
def test_delay(
    name: str, error: ApiError, attempt: int, jitter: float, delay: float | None
) -> None:
    assert delay_before_retry(error, attempt, jitter) == delay, name


def test_a_worker_is_never_held_for_long() -> None:
    delays = [delay_before_retry(BUSY, attempt, 0.99) or 0 for attempt in range(1, ATTEMPTS)]
    assert sum(delays) < 2 * LONGEST_DELAY
