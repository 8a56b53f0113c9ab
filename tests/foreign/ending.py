"""How a stage ends: an exit code of the contract, and one JSON object for people and programs."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

TERMINATION = Path("/dev/termination-log")
RESULTS = Path("/workspace/results")

OUTCOMES = {
    0: "Succeeded",
    10: "UserError",
    11: "Retryable",
    12: "OutOfMemory",
    13: "Preempted",
    14: "NonFiniteLoss",
}


class Ended(Exception):
    """The stage ends here without success; `words` stand in for the JSON object, if any."""

    def __init__(self, code: int, message: str, words: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.words = words


def document(stage: str, code: int, message: str, result: dict[str, Any]) -> str:
    """The contract's termination message."""
    outcome = OUTCOMES.get(code, "Crashed")
    return json.dumps({"stage": stage, "outcome": outcome, "message": message, "result": result})


def say(stage: str, words: str) -> None:
    """Leave the last words where the kubelet and the next stages look for them."""
    TERMINATION.write_text(words)
    with contextlib.suppress(OSError):  # that the workspace is not writable can be the message
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{stage}.json").write_text(words)
