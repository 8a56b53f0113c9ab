"""Real processes: one, several in a pod, several pods, and how each ends.

Those whose beginning is not what a test is about are forked from one that has loaded torch; the
others are started as a container starts them.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from finetune_trainer.outcome import Outcome, StageError
from finetune_trainer.run import Run
from finetune_trainer.train import checkpoint
from finetune_trainer.train.launch import Pod, run_processes
from finetune_trainer.train.stop import Stop
from finetune_trainer.workspace import Workspace
from unit.trainer.train.forked import Forked, start
from unit.trainer.train.made import plan, prepared_workspace, trainer_process
from unit.trainer.train.runs import losses, weights

# Every process imports torch: seconds each, more on a busy machine.
pytestmark = pytest.mark.timeout(300)

LORA: dict[str, Any] = {"lora": {"rank": 4, "alpha": 8, "dropout": "0"}}
FULL: dict[str, Any] = {"full": {}}
TWO = {"FINETUNE_PROCESSES_PER_NODE": "2"}
LONG = plan(LORA, maxSteps=5000)
Trainer = subprocess.Popen[str] | Forked


def finish(process: Trainer, seconds: float = 90) -> tuple[int, str]:
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        output, _ = process.communicate()
        pytest.fail(f"the trainer did not end:\n{output}")
    assert process.returncode is not None
    return process.returncode, output


def run_to_the_end(workspace: Workspace, run: Run, **environment: str) -> str:
    code, output = finish(start(workspace, run, **environment))
    assert code == 0, output
    return output


def termination_message(workspace: Workspace) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((workspace.root / "termination-log").read_text())
    return document


def assert_same_training(one: Workspace, other: Workspace) -> None:
    assert losses(other) == pytest.approx(losses(one), rel=1e-5)
    expected = weights(one)
    for name, tensor in weights(other).items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-5, atol=1e-5)


def wait_for_steps(workspace: Workspace, process: Trainer, count: int) -> None:
    deadline = time.monotonic() + 90
    while len(losses(workspace)) < count:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_two_processes_learn_what_one_learns(tmp_path: Path) -> None:
    # The last step of an epoch has a single sequence: the second rank then has none.
    run = plan(FULL, epochs=2, packing=False, sequencesPerStep=11)
    one = prepared_workspace(tmp_path / "one")
    run_to_the_end(one, run)
    two = prepared_workspace(tmp_path / "two")
    code, output = finish(trainer_process(two, run, **TWO))
    assert code == 0, output
    assert "2 process(es)" in output
    assert_same_training(one, two)
    first, second = termination_message(one), termination_message(two)
    assert second["outcome"] == "Succeeded"
    for key in ("validationLoss", "baseValidationLoss"):
        assert second["result"][key] == pytest.approx(first["result"][key], rel=1e-5)
    assert json.loads(two.result("train").read_text()) == second


def test_two_pods_meet_and_only_the_first_speaks_for_the_stage(tmp_path: Path) -> None:
    run = plan(LORA, epochs=1)
    one = prepared_workspace(tmp_path / "one")
    run_to_the_end(one, run)
    two = prepared_workspace(tmp_path / "two")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = str(listener.getsockname()[1])
    pods = [
        start(
            two,
            run,
            FINETUNE_NODES="2",
            FINETUNE_NODE_RANK=str(rank),
            FINETUNE_MASTER_ADDR="127.0.0.1",
            FINETUNE_MASTER_PORT=port,
            FINETUNE_TERMINATION_LOG=str(tmp_path / f"termination-{rank}"),
            GLOO_SOCKET_IFNAME="lo",
        )
        for rank in (1, 0)
    ]
    for pod in pods:
        code, output = finish(pod)
        assert code == 0, output
    assert_same_training(one, two)
    for rank in (0, 1):
        message = json.loads((tmp_path / f"termination-{rank}").read_text())
        assert message["outcome"] == "Succeeded"


def test_training_again_after_success_returns_the_same_result(tmp_path: Path) -> None:
    workspace = prepared_workspace(tmp_path / "workspace")
    run = plan(LORA, maxSteps=2)
    run_to_the_end(workspace, run)
    first = termination_message(workspace)["result"]
    written = workspace.adapter.stat().st_mtime_ns
    run_to_the_end(workspace, run)
    assert termination_message(workspace)["result"] == first
    assert workspace.adapter.stat().st_mtime_ns == written


@pytest.mark.parametrize("environment", [{}, TWO], ids=["one process", "two processes"])
def test_sigterm_saves_a_checkpoint_and_another_world_size_goes_on(
    environment: dict[str, str], tmp_path: Path
) -> None:
    workspace = prepared_workspace(tmp_path / "stopped")
    process = trainer_process(workspace, LONG, **environment)
    wait_for_steps(workspace, process, 3)
    process.send_signal(signal.SIGTERM)
    code, output = finish(process)
    assert code == Outcome.PREEMPTED, output
    step = int(checkpoint.steps(workspace.checkpoints)[0].name.removeprefix("step-"))
    assert termination_message(workspace)["message"] == (
        f"Stopped after step {step} of 5000; a checkpoint is saved."
    )
    # The same plan hash with fewer steps: the schedule is another, but going on is what counts.
    shorter = plan(LORA, maxSteps=step + 2)
    run_to_the_end(workspace, shorter, **({} if environment else TWO))
    assert termination_message(workspace)["result"]["resumedFromStep"] == step
    assert len(losses(workspace)) == step + 2


def test_sigterm_while_loading_ends_before_a_step_is_taken(tmp_path: Path) -> None:
    workspace = prepared_workspace(tmp_path)
    process = trainer_process(workspace, LONG)
    deadline = time.monotonic() + 60
    while b"libtorch" not in Path(f"/proc/{process.pid}/maps").read_bytes():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    code, output = finish(process)
    assert code == Outcome.PREEMPTED, output
    assert termination_message(workspace)["message"] == "Stopped before the first step."


def test_sigterm_to_workers_that_do_not_listen_yet_is_no_failure_of_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    young = tmp_path / "python"
    young.write_text("#!/bin/sh\nexec sleep 60\n")
    young.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(young))
    stop = Stop().install()
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM)).start()
    pod = Pod(nodes=1, node_rank=0, processes=2, master_addr="127.0.0.1", master_port=1)
    with pytest.raises(StageError, match="Stopped before the first step") as raised:
        run_processes(pod, stop)
    assert raised.value.outcome is Outcome.PREEMPTED


def test_a_user_error_in_the_workers_is_the_pods_own(tmp_path: Path) -> None:
    workspace = prepared_workspace(tmp_path / "workspace")
    run = plan({"lora": {"rank": 4, "alpha": 8, "targetModules": ["nonsense"]}})
    code, output = finish(start(workspace, run, **TWO))
    assert code == Outcome.USER_ERROR, output
    assert 'names "nonsense"' in termination_message(workspace)["message"]


def test_a_lost_pod_is_retryable_for_the_other(tmp_path: Path) -> None:
    workspace = prepared_workspace(tmp_path / "workspace")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = str(listener.getsockname()[1])
    common = {
        "FINETUNE_NODES": "2",
        "FINETUNE_MASTER_ADDR": "127.0.0.1",
        "FINETUNE_MASTER_PORT": port,
        "GLOO_SOCKET_IFNAME": "lo",
    }
    first = start(workspace, LONG, **common, FINETUNE_NODE_RANK="0")
    second = start(
        workspace,
        LONG,
        **common,
        FINETUNE_NODE_RANK="1",
        FINETUNE_TERMINATION_LOG=str(tmp_path / "termination-1"),
    )
    wait_for_steps(workspace, first, 2)
    second.kill()
    finish(second)
    code, output = finish(first)
    assert code == Outcome.RETRYABLE, output
    assert termination_message(workspace)["message"].startswith("Another process of the run was")
