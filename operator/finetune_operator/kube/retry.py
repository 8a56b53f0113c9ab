"""How long to wait before the same call is made again, or that it is not. No calls are made here.

Only what passes by itself within moments is retried in place; anything longer goes back to the
queue, which waits without holding a worker.
"""

from __future__ import annotations

from finetune_operator.kube.errors import ApiError, Transient

ATTEMPTS = 4
FIRST_DELAY = 0.1
LONGEST_DELAY = 2.0


def delay_before_retry(error: ApiError, attempt: int, jitter: float) -> float | None:
    """Seconds to wait after failed attempt number `attempt` (from 1); None: give the error up.

    `jitter` in [0, 1) spreads callers that failed together.
    """
    if not isinstance(error, Transient) or attempt >= ATTEMPTS:
        return None
    backoff = float(min(LONGEST_DELAY, FIRST_DELAY * 2 ** (attempt - 1)))
    asked = error.retry_after or 0.0
    if asked > LONGEST_DELAY:
        return None
    return max(backoff * (0.5 + jitter / 2), asked)
