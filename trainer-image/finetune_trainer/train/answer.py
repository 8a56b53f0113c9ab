"""What the answer to a progress report asks for (docs/stage-contract.md, Progress): a checkpoint.

When it is written is saving.py's business.
"""

from __future__ import annotations

import json
import re

# No answer that is meant for us is longer.
MAXIMUM_BYTES = 4096
# RFC 3339, in upper case: it goes into the log and a checkpoint's state.
_TIME = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)",
    re.ASCII,
)


def checkpoint_requested_at(answer: bytes) -> str | None:
    """When a checkpoint was asked for, as the answer says; None if it says no such thing: servers
    of others answer as they like.
    """
    try:
        document = json.loads(answer)
    except (ValueError, RecursionError):
        return None
    value = document.get("checkpointRequestedAt") if isinstance(document, dict) else None
    return value if isinstance(value, str) and _TIME.fullmatch(value) else None
