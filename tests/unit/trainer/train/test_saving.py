"""Checkpoints beside the training: what they cost the steps, and what a kill costs the run."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from finetune_trainer.train import checkpoint, saving
from finetune_trainer.train.recipe import train
from finetune_trainer.train.stop import Stop
from finetune_trainer.workspace import Workspace
from unit.trainer.train.forked import start
from unit.trainer.train.harm import slowly
from unit.trainer.train.made import plan, prepared_workspace
from unit.trainer.train.runs import losses, recorded


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def saved(workspace: Workspace) -> list[str]:
    return [path.name for path in checkpoint.steps(workspace.checkpoints)]


class SlowVolume:
    """Takes a checkpoint in only when `allowed`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.allowed = threading.Event()
        self.save = checkpoint.save
        monkeypatch.setattr(checkpoint, "save", self)

    def __call__(self, *arguments: Any, **named: Any) -> Path:
        assert self.allowed.wait(60)
        return self.save(*arguments, **named)


@pytest.mark.timeout(120)
def test_training_goes_on_while_a_checkpoint_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = SlowVolume(monkeypatch)
    workspace = prepared_workspace(tmp_path)
    run = plan(epochs=3, checkpoint={"everySteps": 5, "keep": 9})

    def take_it_in_when_the_run_is_further() -> None:
        while len(losses(workspace)) < 8:
            time.sleep(0.01)
        volume.allowed.set()

    threading.Thread(target=take_it_in_when_the_run_is_further, daemon=True).start()
    train(run, workspace, Stop())
    # It holds what was at its step, though the weights went on meanwhile.
    assert saved(workspace) == ["step-9", "step-5"]
    monkeypatch.undo()
    other = prepared_workspace(tmp_path / "other")
    train(run, other, Stop())
    for name in (checkpoint.WEIGHTS, checkpoint.OPTIMIZER):
        slow, fast = (each.checkpoints / "step-5" / name for each in (workspace, other))
        assert slow.read_bytes() == fast.read_bytes()


def test_a_large_state_in_cpu_memory_is_written_without_a_second_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saving, "LARGEST_SECOND_COPY", 0)
    monkeypatch.setattr(saving, "_copied", None)  # would fail
    workspace = prepared_workspace(tmp_path)
    train(plan(maxSteps=4, checkpoint={"everySteps": 2, "keep": 2}), workspace, Stop())
    assert saved(workspace) == ["step-4", "step-2"]


STEPS = 120


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, dict[str, Any]]:
    """A run that nothing has happened to, and its result; checkpoints change nothing in it."""
    torch.set_num_threads(1)
    workspace = prepared_workspace(tmp_path_factory.mktemp("straight"))
    return workspace, train(plan(maxSteps=STEPS), workspace, Stop())[1]


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "settings",
    [{"everySteps": 7, "keep": 2}, {"everySteps": 0, "everySeconds": 1, "keep": 2}],
    ids=["by steps", "by seconds"],
)
def test_a_killed_run_goes_on_from_its_last_checkpoint_as_if_nothing_had_been(
    settings: dict[str, Any], straight: tuple[Workspace, dict[str, Any]], tmp_path: Path
) -> None:
    run = plan(maxSteps=STEPS, checkpoint=settings)
    undisturbed, expected = straight
    killed = prepared_workspace(tmp_path / "killed")
    process = start(killed, run, slowly)
    deadline = time.monotonic() + 120
    while not saved(killed):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.communicate()
    _, result = train(run, killed, Stop())
    assert 0 < result["resumedFromStep"] < STEPS
    if settings["everySteps"]:
        assert result["resumedFromStep"] % settings["everySteps"] == 0
    for name in ("loss", "eval_loss"):
        wanted = recorded(undisturbed, name)
        assert recorded(killed, name) == pytest.approx(wanted, rel=1e-6)
    assert result["validationLoss"] == pytest.approx(expected["validationLoss"], rel=1e-6)
