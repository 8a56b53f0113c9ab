"""Which evaluation is the best, when a run stops early, and which weights it leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from finetune_trainer.outcome import PreemptedError
from finetune_trainer.run import EarlyStopping
from finetune_trainer.train import checkpoint, recipe
from finetune_trainer.train.best import Evaluations
from finetune_trainer.train.recipe import train
from finetune_trainer.train.stop import Stop
from finetune_trainer.workspace import Workspace
from unit.trainer.train.made import StopAfter, plan, prepared_workspace


def after(losses: list[float], min_delta: float = 0.0) -> Evaluations:
    policy = EarlyStopping(min_delta=min_delta)
    found = Evaluations().after(0, {"loss": 0.0}, policy)  # the base
    for index, loss in enumerate(losses, start=1):
        found = found.after(10 * index, {"loss": loss}, policy)
    return found


@pytest.mark.parametrize(
    ("losses", "best_step", "without_gain"),
    [
        ([], None, 0),
        ([3.0], 10, 0),
        ([3.0, 2.0], 20, 0),
        ([3.0, 2.0, 2.5], 20, 1),
        ([3.0, 2.0, 2.5, 2.1], 20, 2),
        ([3.0, 2.0, 2.5, 1.0], 40, 0),
        ([2.0, 2.0], 10, 1),  # an equal one is no gain
    ],
)
def test_the_lowest_loss_is_the_best(
    losses: list[float], best_step: int | None, without_gain: int
) -> None:
    found = after(losses)
    assert (found.best_step, found.without_gain) == (best_step, without_gain)


@pytest.mark.parametrize(
    ("losses", "best_step", "without_gain"),
    [
        ([3.0, 2.95], 20, 1),  # the best, but no gain
        ([3.0, 2.95, 2.85], 30, 0),  # two small ones are one
        ([3.0, 2.85, 2.8], 30, 1),
    ],
)
def test_a_gain_is_larger_than_min_delta(
    losses: list[float], best_step: int, without_gain: int
) -> None:
    found = after(losses, min_delta=0.1)
    assert (found.best_step, found.without_gain) == (best_step, without_gain)


@pytest.mark.parametrize(
    ("policy", "exhausted"), [(None, False), (EarlyStopping(patience=3), False),
                              (EarlyStopping(patience=2), True), (EarlyStopping(patience=1), True)]
)  # fmt: skip
def test_patience_is_out_after_as_many_evaluations_without_a_gain(
    policy: EarlyStopping | None, exhausted: bool
) -> None:
    assert after([2.0, 2.1, 2.2]).exhausted(policy) is exhausted


# So high a rate that the validation loss falls at first and then rises.
RISING: dict[str, Any] = {
    "epochs": 6,
    "learningRate": "0.3",
    "evaluateEverySteps": 1,
    "scheduler": {"type": "Constant", "warmupRatio": "0"},
    "earlyStopping": {"patience": 3},
    "loadBestModelAtEnd": True,
    "checkpoint": {"everySteps": 1, "keep": 1},
}


def evaluations(workspace: Workspace) -> list[tuple[int, float]]:
    lines = [json.loads(line) for line in workspace.history.read_text().splitlines()]
    return [(line["step"], line["eval_loss"]) for line in lines if "eval_loss" in line]


def adapter(workspace: Workspace) -> dict[str, torch.Tensor]:
    return dict(load_file(workspace.adapter / "adapter_model.safetensors"))


def test_a_run_without_gain_stops_early_and_leaves_its_best_weights(tmp_path: Path) -> None:
    workspace = prepared_workspace(tmp_path)
    message, result = train(plan(**RISING), workspace, Stop())
    measured = evaluations(workspace)
    best_step, best_loss = min(measured, key=lambda each: each[1])
    assert result["bestStep"] == best_step
    assert result["validationLoss"] == best_loss
    assert result["steps"] == measured[-1][0] == best_step + 3 < result["totalSteps"] == 18
    assert f"{best_step + 3} steps of 18, stopped early, the best after step {best_step}" in message
    # Beside the newest one.
    kept = [path.name for path in checkpoint.steps(workspace.checkpoints)]
    assert kept == [f"step-{best_step + 3}", f"step-{best_step}"]
    saved = load_file(workspace.checkpoints / f"step-{best_step}" / checkpoint.WEIGHTS)
    left = adapter(workspace)
    assert len(left) == len(saved)
    for name, tensor in saved.items():
        assert torch.equal(tensor, left["base_model.model." + name.replace(".default", "")]), name


def test_without_asking_for_the_best_the_last_weights_are_left(tmp_path: Path) -> None:
    workspace = prepared_workspace(tmp_path)
    _, result = train(plan(**RISING | {"loadBestModelAtEnd": False}), workspace, Stop())
    assert "bestStep" not in result
    assert result["validationLoss"] == evaluations(workspace)[-1][1]
    assert len(checkpoint.steps(workspace.checkpoints)) == 1


@pytest.mark.parametrize("step", [1, 2, 4])
def test_a_resumed_run_stops_where_the_uninterrupted_one_does(
    step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = prepared_workspace(tmp_path / "straight")
    _, expected = train(plan(**RISING), straight, Stop())
    stopped = prepared_workspace(tmp_path / "stopped")
    with monkeypatch.context() as patch, pytest.raises(PreemptedError):
        train(plan(**RISING), stopped, StopAfter(step).arm(recipe, patch))
    _, result = train(plan(**RISING), stopped, Stop())
    assert evaluations(stopped) == evaluations(straight)
    for key in ("steps", "bestStep", "validationLoss"):
        assert result[key] == expected[key]
    for name, tensor in adapter(straight).items():
        assert torch.equal(adapter(stopped)[name], tensor), name


def test_a_best_checkpoint_that_is_damaged_is_told_and_not_pretended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = prepared_workspace(tmp_path)
    run = plan(**RISING)
    _, result = train(run, workspace, Stop())
    best = workspace.checkpoints / f"step-{result['bestStep']}" / checkpoint.WEIGHTS
    best.write_bytes(best.read_bytes()[:-1])
    _, again = train(run, workspace, Stop())  # from the last step
    assert "bestStep" not in again
    assert again["validationLoss"] == evaluations(workspace)[-1][1]
    assert "WARNING: the best checkpoint" in capsys.readouterr().out
