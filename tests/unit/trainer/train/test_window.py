"""What several steps have shown, told as one."""

from pathlib import Path
from typing import Any

import pytest
import torch

from finetune_trainer.outcome import PreemptedError
from finetune_trainer.train import recipe
from finetune_trainer.train.objectives.objective import Objective
from finetune_trainer.train.recipe import train
from finetune_trainer.train.stop import Stop
from finetune_trainer.train.window import Window
from unit.trainer.train.made import (
    StopAfter,
    judged_answers,
    plan,
    preference_pairs,
    prepared_workspace,
)
from unit.trainer.train.runs import history, losses


class Halves(Objective[Any]):
    """Counts something, and tells the share of the targets that had it."""

    counts = 1

    def batches(self, examples: Any, packs: Any) -> Any:
        raise NotImplementedError

    def collate(self, examples: Any, documents: Any, *, supervised: bool = True) -> Any:
        raise NotImplementedError

    def targets(self, examples: Any, documents: Any) -> Any:
        raise NotImplementedError

    def loss(self, batch: Any) -> Any:
        raise NotImplementedError

    def metrics(self, counts: list[float], targets: float) -> dict[str, float]:
        return {"share": counts[0] / targets}


def test_steps_count_by_their_targets() -> None:
    window = Window()
    window.add([1.0, 1.0], 1)
    window.add([8.0, 0.0], 3)
    assert window.take(Halves()) == ({"loss": 2.25}, {"share": 0.25})
    assert window.take(Halves()) == ({}, {})


def test_steps_that_count_nothing_have_a_loss_alone() -> None:
    window = Window()
    window.add([6.0], 3)
    assert window.take(Halves()) == ({"loss": 2.0}, {})


@pytest.mark.parametrize(
    ("loss", "examples", "told"),
    [
        ("DPO", preference_pairs, {"reward_accuracy", "reward_margin"}),
        ("KTO", judged_answers, {"reward_chosen", "reward_rejected", "reward_margin", "kl"}),
    ],
)
def test_rewards_are_told_of_the_trained_answers_too(
    loss: str, examples: Any, told: set[str], tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    workspace = prepared_workspace(tmp_path, train=32, validation=0, examples=examples)
    settings = {"loss": loss, "beta": "0.5"}
    training: dict[str, Any] = {"epochs": 4, "learningRate": "5e-3", "logEverySteps": 2}
    train(plan(task="Preference", preference=settings, **training), workspace, Stop())
    lines = [line for line in history(workspace) if "loss" in line]
    assert all(told <= line.keys() for line in lines)
    # The first two steps hardly move it, the last ones have learned.
    assert lines[-1]["reward_margin"] > lines[0]["reward_margin"] + 0.1


def test_what_is_told_after_a_resume_covers_the_steps_before_it_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(1)
    run = plan(maxSteps=6, logEverySteps=3)
    straight, stopped = (prepared_workspace(tmp_path / name) for name in ("straight", "stopped"))
    train(run, straight, Stop())
    with monkeypatch.context() as patch, pytest.raises(PreemptedError, match="after step 4"):
        train(run, stopped, StopAfter(4).arm(recipe, patch))
    train(run, stopped, Stop())
    assert losses(stopped) == losses(straight)
    assert len(losses(stopped)) == 2
