"""Checkpoints: what a run needs to go on as if nothing had happened, written whole or not at all.

A checkpoint holds the trainable weights, the optimizer's state and the position. Data order and
randomness are functions of the plan and the step, so nothing else is needed, and another number of
ranks can go on with it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from finetune_trainer.train.optimizer import load_state_tensors, state_tensors
from finetune_trainer.workspace import atomic_directory, write_json

WEIGHTS = "weights.safetensors"
OPTIMIZER = "optimizer.safetensors"
STATE = "state.json"


@dataclass(slots=True)
class Position:
    """How far a run is: optimizer steps done, and the values that a resumed run must not lose."""

    step: int = 0
    epoch: float = 0.0
    metrics: dict[str, float] = field(default_factory=dict)


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
    parameters: dict[str, nn.Parameter],
    optimizer: Optimizer,
    keep: int,
) -> Path:
    """Write `root/step-N`; of those before it the newest stay, so that there are `keep` in all.

    Those after it go: a run that is here again could not use them.

    Raises:
        OSError: the volume is full or lost; older checkpoints are untouched.
    """
    path = root / f"step-{position.step}"
    with atomic_directory(path) as directory:
        save_file(_detached(dict(parameters)), directory / WEIGHTS)
        save_file(_detached(state_tensors(optimizer, parameters)), directory / OPTIMIZER)
        state = {
            **asdict(position),
            "planHash": plan_hash,
            "sha256": {name: _sha256(directory / name) for name in (WEIGHTS, OPTIMIZER)},
        }
        write_json(directory / STATE, state)
    found = steps(root)
    here = found.index(path)
    for other in [*found[:here], *found[here + keep :]]:
        shutil.rmtree(other)
    return path


def load_newest(
    root: Path,
    *,
    plan_hash: str,
    parameters: dict[str, nn.Parameter],
    optimizer: Optimizer,
) -> tuple[Position | None, list[Skipped]]:
    """Restore the newest intact checkpoint of this plan into `parameters` and `optimizer`.

    Returns its position, or None if there is none, and what was skipped.
    """
    skipped: list[Skipped] = []
    for path in steps(root):
        try:
            state, weights, moments = _read(path, plan_hash)
            _restore(parameters, optimizer, weights, moments)
        except (FileNotFoundError, ValueError, KeyError, SafetensorError) as error:
            skipped.append(Skipped(path, str(error), damaged=True))
            continue
        except OSError as error:
            skipped.append(Skipped(path, str(error), damaged=False))
            continue
        return Position(state["step"], state["epoch"], state["metrics"]), skipped
    return None, skipped


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


def _restore(
    parameters: dict[str, nn.Parameter],
    optimizer: Optimizer,
    weights: dict[str, Tensor],
    moments: dict[str, Tensor],
) -> None:
    if {name: tuple(value.shape) for name, value in weights.items()} != {
        name: tuple(parameter.shape) for name, parameter in parameters.items()
    }:
        raise ValueError("its weights are not those that this plan trains")
    for name, parameter in parameters.items():
        parameter.data.copy_(weights[name])
    load_state_tensors(optimizer, parameters, moments)


def _detached(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
