"""What holds for every task: how the work is cut, stopped or shared out changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from finetune_trainer.data.examples import Example
from finetune_trainer.outcome import PreemptedError
from finetune_trainer.run import Run
from finetune_trainer.train import recipe, setup
from finetune_trainer.train.probe import Abilities
from finetune_trainer.train.recipe import train
from finetune_trainer.train.stop import Stop
from finetune_trainer.workspace import Workspace
from unit.trainer.train.made import (
    LABELLED_MODEL,
    StopAfter,
    judged_answers,
    labelled_documents,
    plan,
    preference_pairs,
    prepared_workspace,
    tagged_documents,
)
from unit.trainer.train.runs import losses, weights

FULL: dict[str, Any] = {"full": {}}
LORA: dict[str, Any] = {"lora": {"rank": 4, "alpha": 8, "dropout": "0"}}
DROPOUT: dict[str, Any] = {"lora": {"rank": 4, "alpha": 8, "dropout": "0.2"}}


@dataclass(frozen=True)
class Case:
    """A task, examples for it, and what training needs to be told."""

    task: str
    examples: Callable[[int, int], list[Example]]
    training: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)

    def workspace(self, root: Path, **settings: Any) -> Workspace:
        return prepared_workspace(
            root, train=13, validation=3, examples=self.examples, **self.model, **settings
        )

    def plan(self, method: dict[str, Any], **training: Any) -> Run:
        return plan(method, task=self.task, **{"learningRate": "3e-3", **self.training, **training})


CASES = {
    "dpo": Case("Preference", preference_pairs, {"preference": {"loss": "DPO", "beta": "0.5"}}),
    "simpo": Case("Preference", preference_pairs, {"preference": {"loss": "SimPO", "beta": "2"}}),
    "orpo": Case("Preference", preference_pairs, {"preference": {"loss": "ORPO", "beta": "0.2"}}),
    "kto": Case("Preference", judged_answers, {"preference": {"loss": "KTO", "beta": "0.5"}}),
    "classes": Case("Classification", labelled_documents, {"packing": False}, LABELLED_MODEL),
    "tags": Case("TokenClassification", tagged_documents, {"packing": False}, LABELLED_MODEL),
}
every_task = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def assert_same_training(one: Workspace, other: Workspace) -> None:
    assert losses(other) == pytest.approx(losses(one), rel=1e-5, abs=1e-5)
    expected = weights(one)
    for name, tensor in weights(other).items():
        # Adam divides by the gradient's size, and with it what rounding did to the smallest.
        torch.testing.assert_close(tensor, expected[name], rtol=1e-5, atol=1e-4)


@every_task
@pytest.mark.parametrize("method", [LORA, FULL], ids=["lora", "full"])
def test_the_split_into_micro_batches_changes_nothing(
    case: Case, method: dict[str, Any], tmp_path: Path
) -> None:
    one = case.workspace(tmp_path / "one")
    train(case.plan(method, epochs=1, packing=False, sequenceLength=512), one, Stop())
    several = case.workspace(tmp_path / "several")
    train(case.plan(method, epochs=1, packing=False, sequenceLength=32), several, Stop())
    assert_same_training(one, several)


@every_task
def test_padded_rows_learn_the_same_as_shared_rows(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = case.workspace(tmp_path / "shared")
    train(case.plan(LORA, epochs=1), shared, Stop())
    monkeypatch.setattr(
        setup,
        "probe",
        lambda *_: Abilities(shared_rows=False, shared_prefixes=False, separable_head=False),
    )
    padded = case.workspace(tmp_path / "padded")
    train(case.plan(LORA, epochs=1), padded, Stop())
    assert_same_training(shared, padded)


@every_task
@pytest.mark.parametrize("method", [DROPOUT, FULL], ids=["lora with dropout", "full"])
def test_a_stopped_and_resumed_run_equals_the_uninterrupted_one_bit_for_bit(
    case: Case, method: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = case.plan(method, epochs=2, packing=False, sequencesPerStep=4)
    straight = case.workspace(tmp_path / "straight")
    _, expected = train(run, straight, Stop())
    stopped = case.workspace(tmp_path / "stopped")
    with monkeypatch.context() as patch, pytest.raises(PreemptedError, match="after step 3 of"):
        train(run, stopped, StopAfter(3).arm(recipe, patch))
    _, result = train(run, stopped, Stop())
    assert result["resumedFromStep"] == 3
    assert losses(stopped) == losses(straight)
    for key in expected:
        if "alidation" in key:
            assert result[key] == expected[key], key
    resumed = weights(stopped)
    for name, tensor in weights(straight).items():
        assert torch.equal(resumed[name], tensor), name
