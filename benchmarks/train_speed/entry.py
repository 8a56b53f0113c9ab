"""A contestant at the start of a workload: its files, its process, its losses."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from train_speed.contestants import Contestant
from train_speed.session import Session, Step
from train_speed.steps import ALPHA, LEARNING_RATE, RANK, Made, stage_environment
from train_speed.workloads import Workload

RUNNERS = Path(__file__).parent / "runners"
TRAINER = Path(__file__).parents[2] / "trainer-image"
MICRO_BATCH_TOKENS = 1024
PRECISION = {"bfloat16": "Bfloat16", "float32": "Float32"}


@dataclass
class Entry:
    """What is known of a contestant on one workload in one format.

    It runs in `directory`; `rounds` holds its timed steps.
    """

    name: str
    is_ours: bool
    directory: Path
    rounds: list[list[Step]] = field(default_factory=list)
    losses: dict[int, float] = field(default_factory=dict)
    first_step_seconds: float | None = None
    peak_bytes: int = 0
    error: str | None = None

    def see(self, session: Session) -> None:
        """Take over what the process has shown so far."""
        self.losses |= our_losses(self.directory) if self.is_ours else session.losses
        self.first_step_seconds = session.first_step_seconds
        self.peak_bytes = session.peak_bytes


def peer_task(
    workload: Workload, made: Made, dtype: str, adapter: Path, threads: int, steps: int
) -> dict[str, Any]:
    """The file that a peer's runner reads (runners/task.py); the first `steps` steps."""
    used = sorted({index for step in made.steps[:steps] for index in step})
    place = {index: position for position, index in enumerate(used)}
    tokens = workload.sequence_length * workload.sequences_per_step
    return {
        "model": str(made.model),
        "dtype": dtype,
        "kind": workload.kind,
        "rows": [made.rows[index] for index in used],
        "steps": [[place[index] for index in step] for step in made.steps[:steps]],
        "micro_batches": max(1, tokens // max(MICRO_BATCH_TOKENS, workload.sequence_length)),
        "sequence_length": workload.sequence_length,
        "learning_rate": LEARNING_RATE,
        "rank": RANK,
        "alpha": ALPHA,
        "initial_adapter": str(adapter),
        "threads": threads,
    }


def start_peer(
    contestant: Contestant, python: str, task: dict[str, Any], directory: Path
) -> Session:
    """The process of a peer, ready for its first step."""
    file = directory / "task.json"
    file.write_text(json.dumps(task))
    command = [python, str(RUNNERS / contestant.runner), str(file)]
    # Nothing of ours may shadow a peer's modules.
    variables = {**contestant.variables, **_threads(task["threads"]), "PYTHONPATH": ""}
    return Session(command, variables, directory)


def start_ours(
    contestant: Contestant, python: str, made: Made, dtype: str, directory: Path, threads: int
) -> Session:
    """The process of our own trainer's `train` stage, on a workspace with what was prepared."""
    workspace = directory / "workspace"
    workspace.mkdir()
    for prepared in made.workspace.iterdir():
        (workspace / prepared.name).symlink_to(prepared)
    training = {**made.run["training"], "precision": PRECISION[dtype]}
    (directory / "run.json").write_text(json.dumps({**made.run, "training": training}))
    command = [python, str(RUNNERS / contestant.runner)]
    variables = {
        **contestant.variables,
        **_threads(threads),
        **stage_environment(directory),
        "FINETUNE_CPUS": str(threads),
        "PYTHONPATH": str(TRAINER),
    }
    return Session(command, variables, directory)


def our_losses(directory: Path) -> dict[int, float]:
    """The losses that our trainer has written, by step."""
    history = directory / "workspace" / "history.jsonl"
    if not history.exists():
        return {}
    lines = [json.loads(line) for line in history.read_text().splitlines()]
    return {int(line["step"]): float(line["loss"]) for line in lines if "loss" in line}


def threads_here() -> int:
    """The CPUs that everybody may use."""
    return len(os.sched_getaffinity(0))


def _threads(count: int) -> dict[str, str]:
    return {"OMP_NUM_THREADS": str(count), "MKL_NUM_THREADS": str(count)}
