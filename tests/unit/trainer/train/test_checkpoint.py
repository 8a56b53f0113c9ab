"""Which checkpoint a run goes on from, and what it leaves of the others."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
import torch

from finetune_trainer.outcome import Outcome, PreemptedError
from finetune_trainer.train import checkpoint, recipe
from finetune_trainer.train.parallel import Group, Ranks
from finetune_trainer.train.recipe import train
from finetune_trainer.train.stop import Stop
from unit.trainer.train.forked import run_to_its_end
from unit.trainer.train.harm import newest_checkpoint_is_stale_for_the_second_rank, turn_bit
from unit.trainer.train.made import StopAfter, plan, prepared_workspace
from unit.trainer.train.runs import losses, weights

LORA: dict[str, Any] = {"lora": {"rank": 4, "alpha": 8, "dropout": "0"}}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def saved(root: Path) -> list[str]:
    return [path.name for path in checkpoint.steps(root)]


@pytest.mark.timeout(300)
def test_all_ranks_go_on_from_the_newest_one_that_all_can_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = plan(LORA, maxSteps=6, checkpoint={"everySteps": 1, "keep": 9})
    straight, stopped = (prepared_workspace(tmp_path / name) for name in ("straight", "stopped"))
    train(run, straight, Stop())
    with monkeypatch.context() as patch, pytest.raises(PreemptedError, match="after step 4"):
        train(run, stopped, StopAfter(4).arm(recipe, patch))
    ended = run_to_its_end(
        stopped,
        run,
        newest_checkpoint_is_stale_for_the_second_rank,
        FINETUNE_PROCESSES_PER_NODE="2",
    )
    assert ended.outcome is Outcome.SUCCEEDED, ended.log
    assert ended.result["resumedFromStep"] == 3
    assert (
        "step-4 cannot be used and is skipped: another process of the run cannot use it\n"
        in ended.log
    )
    assert losses(stopped) == pytest.approx(losses(straight), rel=1e-5)
    for name, tensor in weights(straight).items():
        torch.testing.assert_close(weights(stopped)[name], tensor, rtol=1e-5, atol=1e-5)


def test_a_damaged_one_never_outlives_a_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = plan(LORA, maxSteps=8, checkpoint={"everySteps": 2, "keep": 1})
    workspace = prepared_workspace(tmp_path)
    train(run, workspace, Stop())
    turn_bit(workspace.checkpoints / "step-8" / checkpoint.OPTIMIZER)
    with monkeypatch.context() as patch, pytest.raises(PreemptedError, match="after step 3 of 8"):
        train(run, workspace, StopAfter(3).arm(recipe, patch))
    assert saved(workspace.checkpoints) == ["step-3"]
    _, result = train(run, workspace, Stop())
    assert result["resumedFromStep"] == 3


def test_one_that_cannot_be_read_is_not_taken_for_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = plan(LORA, maxSteps=4, checkpoint={"everySteps": 2, "keep": 2})
    workspace = prepared_workspace(tmp_path)
    train(run, workspace, Stop())

    def stale(path: Path) -> str:
        raise OSError(errno.ESTALE, "Stale file handle")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "_sha256", stale)
        position, skipped = checkpoint.load_newest(
            workspace.checkpoints,
            plan_hash=run.plan_hash,
            restore=lambda weights, moments: None,
            group=Group(Ranks(), torch.device("cpu")),
        )
    assert position is None
    assert [(each.path.name, each.damaged) for each in skipped] == [
        ("step-4", False),
        ("step-2", False),
    ]


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    workspace = prepared_workspace(tmp_path)
    train(plan(LORA, epochs=3, checkpoint={"everySteps": 2, "keep": 2}), workspace, Stop())
    assert saved(workspace.checkpoints) == ["step-9", "step-8"]


def test_what_a_killed_process_had_half_written_is_removed(tmp_path: Path) -> None:
    workspace = prepared_workspace(tmp_path)
    half = workspace.checkpoints / "step-3.tmp"
    half.mkdir(parents=True)
    (half / checkpoint.WEIGHTS).write_bytes(bytes(100))
    train(plan(LORA, maxSteps=2), workspace, Stop())
    assert [path.name for path in workspace.checkpoints.iterdir()] == ["step-2"]
