"""Checkpoints: what a run needs to go on as if nothing had happened, written whole or not at all.

A checkpoint holds the trainable weights, the optimizer's state and the position. Data order and
randomness are functions of the plan and the step, so nothing else is needed, and another number of
ranks can go on with it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from finetune_trainer.train.best import Evaluations
from finetune_trainer.train.skips import Skips
from finetune_trainer.workspace import atomic_directory, write_json

WEIGHTS = "weights.safetensors"
OPTIMIZER = "optimizer.safetensors"
STATE = "state.json"


@dataclass(slots=True)
class Position:
    """How far a run is: optimizer steps done, and the values that a resumed run must not lose.

    `checkpoint_requested_at`: the last request for a checkpoint that one came after, as a resumed
    run is told of it again.
    """

    step: int = 0
    epoch: float = 0.0
    metrics: dict[str, float] = field(default_factory=dict)
    skips: Skips = field(default_factory=Skips)
    evaluations: Evaluations = field(default_factory=Evaluations)
    checkpoint_requested_at: str | None = None

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Position:
        """What a checkpoint of this or an older image holds."""
        return cls(
            step=state["step"],
            epoch=state["epoch"],
            metrics=state["metrics"],
            skips=Skips(**state.get("skips", {})),
            evaluations=Evaluations(**state.get("evaluations", {})),
            checkpoint_requested_at=state.get("checkpoint_requested_at"),
        )


@dataclass(frozen=True, slots=True)
class Skipped:
    """A checkpoint that was not used. `damaged`: its content is wrong; else it could only not be
    read, and may be whole.
    """

    path: Path
    why: str
    damaged: bool


def save(
    root: Path,
    *,
    plan_hash: str,
    position: Position,
    weights: dict[str, Tensor],
    moments: dict[str, Tensor],
    keep: int,
    besides: int | None = None,
) -> Path:
    """Write `root/step-N`; of those before it the newest stay, so that there are `keep` in all, and
    that of step `besides`.

    `weights` and `moments` are in CPU memory. Those after it go: a run that is here again could not
    use them.

    Raises:
        OSError: the volume is full or lost; older checkpoints are untouched.
    """
    path = root / f"step-{position.step}"
    with atomic_directory(path) as directory:
        save_file(weights, directory / WEIGHTS)
        save_file(moments, directory / OPTIMIZER)
        state = {
            **asdict(position),
            "planHash": plan_hash,
            "sha256": {name: _sha256(directory / name) for name in (WEIGHTS, OPTIMIZER)},
        }
        write_json(directory / STATE, state)
    found = steps(root)
    here = found.index(path)
    for other in [*found[:here], *found[here + keep :]]:
        if other != root / f"step-{besides}":
            shutil.rmtree(other)
    return path


def load_newest(
    root: Path,
    *,
    plan_hash: str,
    restore: Callable[[dict[str, Tensor], dict[str, Tensor]], None],
) -> tuple[Position | None, list[Skipped]]:
    """Give weights and moments of the newest intact checkpoint of this plan to `restore`, which
    raises ValueError if they are not what it wants.

    Returns its position, or None if there is none, and what was skipped.
    """
    skipped: list[Skipped] = []
    for path in steps(root):
        found = load(path, plan_hash=plan_hash, restore=restore)
        if isinstance(found, Position):
            return found, skipped
        skipped.append(found)
    return None, skipped


def load(
    path: Path,
    *,
    plan_hash: str,
    restore: Callable[[dict[str, Tensor], dict[str, Tensor]], None],
) -> Position | Skipped:
    """The same with the checkpoint `path` alone: its position, or why it cannot be used."""
    try:
        state, weights, moments = _read(path, plan_hash)
        restore(weights, moments)
        return Position.from_state(state)
    except (FileNotFoundError, ValueError, KeyError, SafetensorError) as error:
        return Skipped(path, str(error), damaged=True)
    except OSError as error:
        return Skipped(path, str(error), damaged=False)


def steps(root: Path) -> list[Path]:
    """The complete checkpoints in `root`, the newest first."""
    found = [
        path
        for path in root.glob("step-*")
        if path.is_dir() and path.name.removeprefix("step-").isdecimal()
    ]
    return sorted(found, key=lambda path: int(path.name.removeprefix("step-")), reverse=True)


def _read(
    path: Path, plan_hash: str
) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, Tensor]]:
    state = json.loads((path / STATE).read_bytes())
    if state["planHash"] != plan_hash:
        raise ValueError("it belongs to another plan")
    for name, expected in state["sha256"].items():
        if _sha256(path / name) != expected:
            raise ValueError(f"{name} is damaged")
    return state, load_file(path / WEIGHTS), load_file(path / OPTIMIZER)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
