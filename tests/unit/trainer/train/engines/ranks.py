"""Trainings on several real ranks: one process that has loaded everything forks the ranks of one
training after another, since loading takes longer than training does.

`python ranks.py JOBS` is that process.
"""

from __future__ import annotations

import json
import math
import os
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from peft.tuners.lora import Linear as LoraLinear

from finetune_trainer.outcome import PreemptedError
from finetune_trainer.run import Run
from finetune_trainer.train.engines.deepspeed import Zero
from finetune_trainer.train.engines.replicated import Replicated
from finetune_trainer.train.engines.sharded import Sharded
from finetune_trainer.train.recipe import train
from finetune_trainer.train.speed import lora as fused_lora
from finetune_trainer.train.stop import Stop
from finetune_trainer.workspace import Workspace
from unit.trainer.train.runs import losses

TESTS = Path(__file__).parents[4]


@dataclass(frozen=True)
class Job:
    """A training of `run` in the workspace `root` by so many `ranks`, told to stop after
    `stop_after` steps, or whose gradient in one step, counted from 1, is taken for broken.
    """

    root: str
    run: dict[str, Any]
    ranks: int = 1
    stop_after: int | None = None
    broken_step: int | None = None
    port: int = field(default_factory=lambda: _free_port())

    @property
    def workspace(self) -> Workspace:
        return Workspace(Path(self.root))

    def environment(self, rank: int) -> dict[str, str]:
        """torch's variables for one of its ranks, and the contract's."""
        return {
            "RANK": str(rank),
            "WORLD_SIZE": str(self.ranks),
            "LOCAL_RANK": str(rank),
            "LOCAL_WORLD_SIZE": str(self.ranks),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(self.port),
            "GLOO_SOCKET_IFNAME": "lo",
            "FINETUNE_CPUS": str(self.ranks),
        }


class StopAfter(Stop):
    """SIGTERM that comes while the step after `steps` is computed."""

    def __init__(self, workspace: Workspace, steps: int | None) -> None:
        super().__init__()
        self._workspace = workspace
        self._steps = steps

    @property
    def requested(self) -> bool:
        return self._steps is not None and len(losses(self._workspace)) >= self._steps

    @requested.setter
    def requested(self, value: bool) -> None:
        pass


def work_through(jobs: Sequence[Job], directory: Path) -> None:
    """Train all `jobs`, one after another; fail with what they said."""
    file = directory / "jobs.json"
    file.write_text(json.dumps([asdict(job) for job in jobs]))
    done = subprocess.run(
        [sys.executable, __file__, str(file)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=1500,
        env={
            **os.environ,
            "PYTHONPATH": f"{TESTS.parent / 'trainer-image'}:{TESTS}",
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
            "DS_ACCELERATOR": "cpu",
        },
    )
    assert done.returncode == 0, done.stdout


def lora_calls(workspace: Workspace, rank: int) -> dict[str, int]:
    """How often `rank` went through LoRA layers in passes that train, in one operator (`fused`) and
    as PEFT does (`stock`).
    """
    found: dict[str, int] = json.loads((workspace.root / f"lora-{rank}.json").read_text())
    return found


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _break(step: int) -> None:
    """Engines find a gradient norm that is not finite in this `step`: the gradient is there."""
    calls = iter(range(1, 1000))

    def broken(clip: Callable[[Any, float], float]) -> Callable[[Any, float], float]:
        def call(engine: Any, maximum: float) -> float:
            norm = clip(engine, maximum)
            return math.nan if next(calls) == step else norm

        return call

    engines: tuple[Any, ...] = (Replicated, Sharded, Zero)
    for engine in engines:
        engine.clip = broken(engine.clip)


def _count_lora() -> dict[str, int]:
    """Calls from now on, in this process: see `lora_calls`."""
    calls = {"fused": 0, "stock": 0}

    def counted(function: Callable[..., Any], kind: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            calls[kind] += torch.is_grad_enabled()
            return function(*args, **kwargs)

        return call

    fused_lora.lora_linear = counted(fused_lora.lora_linear, "fused")
    LoraLinear.forward = counted(LoraLinear.forward, "stock")
    return calls


def _main() -> None:
    jobs = [Job(**document) for document in json.loads(Path(sys.argv[1]).read_text())]
    import deepspeed  # noqa: F401  # once for all of them, and here alone: it takes seconds

    from unit.trainer.train import loaded  # noqa: F401

    for job in jobs:
        # Each rank of each in a process of its own: DeepSpeed keeps its groups of ranks for good.
        ranks = [_forked(job, rank) for rank in range(job.ranks)]
        ended = [os.waitpid(rank, 0)[1] for rank in ranks]
        if any(ended):
            sys.exit(f"failed: {job}")


def _forked(job: Job, rank: int) -> int:
    """The process id of one of its ranks."""
    child = os.fork()
    if child:
        return child
    os.environ.update(job.environment(rank))
    if job.broken_step:
        _break(job.broken_step)
    calls = _count_lora()
    try:
        train(Run.model_validate(job.run), job.workspace, StopAfter(job.workspace, job.stop_after))
        assert job.stop_after is None, "it was not stopped"
    except PreemptedError:
        assert job.stop_after is not None
    except BaseException:
        traceback.print_exc()
        sys.stdout.flush()
        os._exit(1)
    (job.workspace.root / f"lora-{rank}.json").write_text(json.dumps(calls))
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    _main()
