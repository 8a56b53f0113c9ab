"""Checkpoints: what a run needs to go on as if nothing had happened, written whole or not at all.

A checkpoint holds the trainable weights, the optimizer's state and the position. Data order and
randomness are functions of the plan and the step, so nothing else is needed, and another number of
ranks can go on with it. All ranks go on with the same one: what one of them cannot read none takes,
or each would train something else and their gradients would still add up.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from finetune_trainer.train.best import Evaluations
from finetune_trainer.train.parallel import Group
from finetune_trainer.train.skips import Skips
from finetune_trainer.train.window import Window
from finetune_trainer.workspace import atomic_directory, write_json

WEIGHTS = "weights.safetensors"
OPTIMIZER = "optimizer.safetensors"
STATE = "state.json"

# Takes weights and moments back; ValueError or KeyError if they are not what it wants.
Restore = Callable[[dict[str, Tensor], dict[str, Tensor]], None]


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
    window: Window = field(default_factory=Window)

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
            window=Window(**state.get("window", {})),
        )


@dataclass(frozen=True, slots=True)
class Unusable:
    """A checkpoint that was not used. `damaged`: its content is wrong; else it could only not be
    read, and may be whole.
    """

    path: Path
    why: str
    damaged: bool


@dataclass(frozen=True, slots=True)
class _Content:
    position: Position
    weights: dict[str, Tensor]
    moments: dict[str, Tensor]


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
    root: Path, *, plan_hash: str, restore: Restore, group: Group
) -> tuple[Position | None, list[Unusable]]:
    """Give weights and moments of the newest checkpoint of this plan that is intact, and that all
    ranks can read, to `restore`. All ranks call it together.

    Returns its position, the same on every rank, or None if there is none, and what was skipped.
    """
    skipped: list[Unusable] = []
    below = math.inf
    while True:
        known = [number for path in steps(root) if (number := _number(path)) < below]
        below = group.maximum(max(known, default=-1))
        if below < 0:
            return None, skipped
        path = root / f"step-{int(below)}"
        found = load(path, plan_hash=plan_hash, restore=restore, group=group)
        if isinstance(found, Position):
            return found, skipped
        skipped.append(found)


def load(path: Path, *, plan_hash: str, restore: Restore, group: Group) -> Position | Unusable:
    """The same with the checkpoint `path` alone: its position, or why it cannot be used."""
    found = _read(path, plan_hash)
    somebody_cannot = group.any(isinstance(found, Unusable))
    if isinstance(found, Unusable):
        return found
    if somebody_cannot:
        return Unusable(path, "another process of the run cannot use it", damaged=False)
    try:
        restore(found.weights, found.moments)
    except (ValueError, KeyError) as error:
        return Unusable(path, str(error), damaged=True)
    return found.position


def steps(root: Path) -> list[Path]:
    """The complete checkpoints in `root`, the newest first."""
    found = [
        path
        for path in root.glob("step-*")
        if path.is_dir() and path.name.removeprefix("step-").isdecimal()
    ]
    return sorted(found, key=_number, reverse=True)


def remove_unfinished(root: Path) -> None:
    """Remove what was left by processes that were killed while they wrote a checkpoint: a run that
    goes on from another step would never write over it.
    """
    for path in root.glob("step-*.tmp"):
        shutil.rmtree(path)


def _number(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def _read(path: Path, plan_hash: str) -> _Content | Unusable:
    """What is in it, if it is whole and of this plan."""
    try:
        state = json.loads((path / STATE).read_bytes())
        if state["planHash"] != plan_hash:
            raise ValueError("it belongs to another plan")
        for name, expected in state["sha256"].items():
            if _sha256(path / name) != expected:
                raise ValueError(f"{name} is damaged")
        weights, moments = load_file(path / WEIGHTS), load_file(path / OPTIMIZER)
        return _Content(Position.from_state(state), weights, moments)
    except (FileNotFoundError, ValueError, KeyError, TypeError, SafetensorError) as error:
        return Unusable(path, str(error), damaged=True)
    except OSError as error:
        return Unusable(path, str(error), damaged=False)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
