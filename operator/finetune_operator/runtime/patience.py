"""How soon a Job whose pods are long in starting or stopping is looked into, and how often. Pure.

No watch tells, and every look costs API calls: who waits long is asked seldom.
"""

from __future__ import annotations

# A pod on an idle node with the image present starts within this.
FIRST = 3.0
SOONEST = 10.0
SELDOM = 60.0
# A look when the wait has grown by a fifth: after five minutes there is one a minute.
GROWTH = 0.2


def until_look(waited: float, since_last: float | None) -> float:
    """Seconds until the next look into a Job that waits this long; 0 when it is due.

    `since_last` is how long ago it was looked into; None if it never was.
    """
    if since_last is None:
        return max(0.0, FIRST - waited)
    return max(0.0, min(SELDOM, max(SOONEST, GROWTH * waited)) - since_last)
