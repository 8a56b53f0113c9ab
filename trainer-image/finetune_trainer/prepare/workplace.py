"""Whose the workspace is: a plan makes it its own, and what another plan left goes.

The model and the tokenized data may stay: whether they serve is decided where they are made.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from finetune_trainer.outcome import UserError
from finetune_trainer.run import Run
from finetune_trainer.workspace import Workspace, write_text

STAGE = "prepare"
# In place of a plan's hash: a run's workspace, whose former files are on their way out.
CLEARING = "clearing"
# What stages write down of one plan, in the logs.
TOLD = ("stages.jsonl", "samples.jsonl", "skipped-steps.jsonl")


def finished(run: Run, workspace: Workspace) -> dict[str, Any] | None:
    """The result of an earlier pod of the same plan, if it did all and its files are there."""
    if not (_holds_plan(run, workspace) and workspace.data.exists()):
        return None
    return workspace.read_result(STAGE)


def claim_workspace(run: Run, workspace: Workspace) -> None:
    """Make the workspace this plan's: remove what another plan left, but keep model and data.

    Raises:
        UserError: it holds files that no run has made.
    """
    if _holds_plan(run, workspace):
        return
    workspace.root.mkdir(parents=True, exist_ok=True)
    directories = (
        workspace.prepare,
        workspace.checkpoints,
        workspace.adapter,
        workspace.merged,
        workspace.result(STAGE).parent,
        scratch(workspace),
    )
    was_a_runs = workspace.plan_hash.exists()
    if not was_a_runs:
        kept = (workspace.model, workspace.data, workspace.history, workspace.report)
        _require_nobodys(workspace, *kept, *directories)
    # First, so that a kill half-way cannot leave another plan's files under this one's name, and
    # the next attempt still knows that a run has made them.
    write_text(workspace.plan_hash, CLEARING + "\n")
    unfinished = [path.with_name(path.name + ".tmp") for path in (*directories, workspace.data)]
    for path in (*directories, *unfinished):
        if path.exists():
            shutil.rmtree(path)
    told = (workspace.logs / name for name in TOLD)
    for file in (workspace.history, workspace.report, *(told if was_a_runs else ())):
        file.unlink(missing_ok=True)
    write_text(workspace.plan_hash, run.plan_hash + "\n")


def scratch(workspace: Workspace) -> Path:
    """Downloads and caches, on the volume: a data set may be larger than /tmp; a retry resumes."""
    return workspace.data.with_name("download.tmp")


def _holds_plan(run: Run, workspace: Workspace) -> bool:
    return workspace.plan_hash.exists() and workspace.plan_hash.read_text().strip() == run.plan_hash


def _require_nobodys(workspace: Workspace, *paths: Path) -> None:
    """On a claim that no run has marked as its own, everything belongs to somebody."""
    # Except what an attempt leaves that ended here.
    own = workspace.result(STAGE)
    for path in paths:
        if path == own.parent and path.is_dir() and list(path.iterdir()) == [own]:
            continue
        if path.exists():
            name = f"{path.name}/" if path.is_dir() else path.name
            raise UserError(
                f"The claim in spec.storage.claimName holds {name} that no run made, and it would "
                f"be removed: use an empty claim, or move {name} elsewhere."
            )
