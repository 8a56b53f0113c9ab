"""When stages began and how they ended: lines of the workspace's `logs/stages.jsonl`.

A line says that an attempt began, another one how it ended; of one that was killed there is only
the first. What a stage has found out belongs to its result.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from finetune_trainer.workspace import Workspace, json_lines, json_text

# A process is one attempt at one stage.
BEGAN = round(time.time(), 3)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt at a stage: times in seconds since 1970; `ended` and `outcome` are None while it
    runs, and of one that ended without a word.
    """

    stage: str
    number: int
    began: float
    ended: float | None = None
    outcome: str | None = None


def note(stage: str, workspace: Workspace, outcome: str | None = None) -> None:
    """Write down that this process's attempt began, or with an `outcome` that it ended.

    Nothing is written into a workspace that is no run's, nor by pods beside the first one. A volume
    that takes no line is said in the log and is no error.
    """
    if os.environ.get("FINETUNE_NODE_RANK", "0") != "0" or not workspace.plan_hash.exists():
        return
    line: dict[str, Any] = {
        "stage": stage,
        "attempt": int(os.environ.get("FINETUNE_ATTEMPT") or 1),
        "began": BEGAN,
    }
    if outcome is not None:
        line |= {"ended": round(time.time(), 3), "outcome": outcome}
    try:
        workspace.stages.parent.mkdir(exist_ok=True)
        with workspace.stages.open("a", encoding="utf-8") as file:
            file.write(json_text(line) + "\n")
    except OSError as error:
        print(f"cannot write {workspace.stages}: {error}", file=sys.stderr, flush=True)


def read_attempts(workspace: Workspace) -> list[Attempt]:
    """All attempts in the order in which they began, none after its stage had succeeded: those
    found their work done. Lines that make no sense are left out.
    """
    found: dict[tuple[str, int, float], Attempt] = {}
    try:
        lines = json_lines(workspace.stages)
    except OSError:
        return []
    for text in lines:
        attempt = _attempt(text)
        if attempt is not None:
            key = (attempt.stage, attempt.number, attempt.began)
            if key not in found or attempt.ended is not None:
                found[key] = attempt
    done: set[str] = set()
    kept = []
    for attempt in sorted(found.values(), key=lambda each: each.began):
        if attempt.stage not in done:
            kept.append(attempt)
        if attempt.outcome == "Succeeded":
            done.add(attempt.stage)
    return kept


def _attempt(text: str) -> Attempt | None:
    try:
        line: Mapping[str, Any] = json.loads(text)
        ended, outcome = line.get("ended"), line.get("outcome")
        return Attempt(
            stage=str(line["stage"]),
            number=int(line["attempt"]),
            began=float(line["began"]),
            ended=None if ended is None else float(ended),
            outcome=None if outcome is None else str(outcome),
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None
