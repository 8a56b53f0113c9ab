"""Trainings on several real ranks: one pair of processes works through many, since starting each
takes longer than training does.

`python ranks.py JOBS` is one rank; torch's variables say which.
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
from safetensors.torch import load_file

from finetune_trainer.outcome import PreemptedError
from finetune_trainer.run import Run
from finetune_trainer.train.engines.deepspeed import Zero
from finetune_trainer.train.engines.replicated import Replicated
from finetune_trainer.train.engines.sharded import Sharded
from finetune_trainer.train.recipe import train
from finetune_trainer.train.speed import lora as fused_lora
from finetune_trainer.train.stop import Stop
from finetune_trainer.workspace import Workspace

TESTS = Path(__file__).parents[4]


@dataclass(frozen=True)
class Job:
    """A training of `run` in the workspace `root`, told to stop after `stop_after` steps, or whose
    gradient in one step, counted from 1, is taken for broken.
    """

    root: str
    run: dict[str, Any]
    stop_after: int | None = None
    broken_step: int | None = None
    port: int = field(default_factory=lambda: _free_port())

    @property
    def workspace(self) -> Workspace:
        return Workspace(Path(self.root))


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


def work_through(jobs: Sequence[Job], *, ranks: int, directory: Path) -> None:
    """Train all `jobs`, one after another, on `ranks` processes; fail with what they said."""
    file = directory / f"jobs-{ranks}.json"
    file.write_text(json.dumps([asdict(job) for job in jobs]))
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, str(file)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={
                **os.environ,
                "PYTHONPATH": f"{TESTS.parent / 'trainer-image'}:{TESTS}",
                "RANK": str(rank),
                "WORLD_SIZE": str(ranks),
                "LOCAL_RANK": str(rank),
                "LOCAL_WORLD_SIZE": str(ranks),
                "MASTER_ADDR": "127.0.0.1",
                "GLOO_SOCKET_IFNAME": "lo",
                "FINETUNE_CPUS": str(ranks),
                "OMP_NUM_THREADS": "1",
                "HF_HUB_OFFLINE": "1",
            },
        )
        for rank in range(ranks)
    ]
    try:
        said = [process.communicate(timeout=1500)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert all(process.returncode == 0 for process in processes), "\n\n".join(said)


def losses(workspace: Workspace) -> list[float]:
    """The loss of every step."""
    return _recorded(workspace, "loss")


def validation_losses(workspace: Workspace) -> list[float]:
    """Before the first step and after the last."""
    return _recorded(workspace, "base_eval_loss") + _recorded(workspace, "eval_loss")


def evaluations(workspace: Workspace) -> list[dict[str, float]]:
    """All that each evaluation found, the base's first."""
    lines = [json.loads(line) for line in workspace.history.read_text().splitlines()]
    found = [{name: value for name, value in line.items() if "eval_" in name} for line in lines]
    return [each for each in found if each]


def lora_calls(workspace: Workspace, rank: int) -> dict[str, int]:
    """How often `rank` went through LoRA layers in passes that train, in one operator (`fused`) and
    as PEFT does (`stock`).
    """
    found: dict[str, int] = json.loads((workspace.root / f"lora-{rank}.json").read_text())
    return found


def weights(workspace: Workspace) -> dict[str, torch.Tensor]:
    """What the training left, adapter or model."""
    lora = workspace.adapter / "adapter_model.safetensors"
    return dict(load_file(lora if lora.exists() else workspace.merged / "model.safetensors"))


def _recorded(workspace: Workspace, name: str) -> list[float]:
    if not workspace.history.exists():
        return []
    lines = [json.loads(line) for line in workspace.history.read_text().splitlines()]
    return [line[name] for line in lines if name in line]


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
    if any(job.run["parallelism"].get("strategy") == "DeepSpeed" for job in jobs):
        os.environ["DS_ACCELERATOR"] = "cpu"
        import deepspeed  # noqa: F401  # once for all of them
    for job in jobs:
        # Each in a process of its own: DeepSpeed keeps its groups of ranks for good.
        child = os.fork()
        if child:
            _, status = os.waitpid(child, 0)
            if status:
                sys.exit(f"failed: {job}")
            continue
        os.environ["MASTER_PORT"] = str(job.port)
        stop = StopAfter(job.workspace, job.stop_after)
        if job.broken_step:
            _break(job.broken_step)
        calls = _count_lora()
        try:
            train(Run.model_validate(job.run), job.workspace, stop)
            assert job.stop_after is None, "it was not stopped"
        except PreemptedError:
            assert job.stop_after is not None
        except Exception:
            traceback.print_exc()
            sys.stdout.flush()
            os._exit(1)
        (job.workspace.root / f"lora-{os.environ['RANK']}.json").write_text(json.dumps(calls))
        sys.stdout.flush()
        os._exit(0)


if __name__ == "__main__":
    _main()
