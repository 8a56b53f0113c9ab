"""Whether a contestant learns what it should: its first losses beside a float32 reference.

The reference is stock PEFT in Transformers' `Trainer` (for pairs: in TRL's `DPOTrainer`), in
float32, on the same steps from the same adapter values. It takes minutes, so it is kept in the
cache under a hash of everything that it depends on. The first loss is the base model's and tells
whether the batches are the same; the later ones tell whether small updates survive.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from train_speed.contestants import CONTESTANTS
from train_speed.entry import peer_task, start_peer
from train_speed.environments import PINNED, python_of
from train_speed.session import ContestantError, Session
from train_speed.steps import Made
from train_speed.workloads import Workload, cached_folder

STEPS = 3
# Of a task: where things are, not what they are.
INDIFFERENT = ("initial_adapter", "model", "threads")


@dataclass(frozen=True, slots=True)
class Reference:
    """`losses` of the first steps; `adapter` is the file with the values that all start from."""

    losses: list[float]
    adapter: Path


def reference(
    workload: Workload, made: Made, python: dict[str, str], directory: Path, threads: int
) -> Reference:
    """From the cache, or trained now.

    Raises:
        ContestantError: the reference's process failed.
        InstallError: its environment cannot be installed.
    """
    name = "trl" if workload.kind == "preference" else "transformers"
    contestant = CONTESTANTS[name]
    adapter = directory / "adapter.safetensors"
    task = peer_task(workload, made, "float32", adapter, threads, STEPS)
    folder = cached_folder(f"bench-reference-{_key(task, made.model)}")
    losses = folder / "losses.json"
    if not losses.exists():
        print("  reference losses: stock PEFT in float32, once for this cache", flush=True)
        session = start_peer(contestant, python_of(contestant.environment, python), task, directory)
        found = _run(session)
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(adapter, folder / adapter.name)
        losses.write_text(json.dumps(found))
    return Reference(json.loads(losses.read_bytes()), folder / adapter.name)


def _run(session: Session) -> list[float]:
    try:
        # The last loss comes after the last step, when the training has ended by itself.
        session.go(STEPS + 1)
    finally:
        session.close()
    if len(session.losses) < STEPS:
        raise ContestantError(f"the reference told {len(session.losses)} of {STEPS} losses")
    return [session.losses[step] for step in range(1, STEPS + 1)]


def _key(task: Mapping[str, Any], model: Path) -> str:
    lock = (PINNED / "huggingface.lock").read_text()
    content = {
        **{key: value for key, value in task.items() if key not in INDIFFERENT},
        "weights": [
            [path.name, path.stat().st_size] for path in sorted(model.glob("*.safetensors"))
        ],
        "versions": [line for line in lock.splitlines() if "==" in line],
    }
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def deviation(losses: Mapping[int, float], reference: list[float]) -> float | None:
    """The largest difference among the first losses; None when not even two are known.

    One alone tells nothing of what was learned.
    """
    known = [abs(losses[step] - loss) for step, loss in enumerate(reference, 1) if step in losses]
    return max(known) if len(known) > 1 else None
