"""Preference on a tiny model: it learns what is preferred, and computes what padded pairs would."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch.nn.functional import logsigmoid
from transformers import AutoModelForCausalLM

from finetune_trainer.data.answers import answers_of
from finetune_trainer.data.examples import Example, Examples
from finetune_trainer.train.recipe import train
from finetune_trainer.train.stop import Stop
from finetune_trainer.workspace import Workspace
from unit.trainer.train.harm import cut
from unit.trainer.train.made import plan, preference_pairs, prepared_workspace
from unit.trainer.train.runs import history

FULL: dict[str, Any] = {"full": {}}
LORA: dict[str, Any] = {"lora": {"rank": 4, "alpha": 8, "dropout": "0"}}
DROPOUT: dict[str, Any] = {"lora": {"rank": 4, "alpha": 8, "dropout": "0.2"}}
DPO = {"loss": "DPO", "beta": "0.5"}
LOSSES = [DPO, {"loss": "SimPO", "beta": "2", "gamma": "0.5"}, {"loss": "ORPO", "beta": "0.2"}]
NAMES = ["dpo", "simpo", "orpo"]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def workspace_of_pairs(root: Path, **settings: Any) -> Workspace:
    return prepared_workspace(root, examples=preference_pairs, **settings)


def mean_loss(workspace: Workspace, policy: Any, base: Any, settings: dict[str, str]) -> float:
    """The loss of the validation pairs, by transformers alone: padded rows of two, labels -100."""
    validation = Examples(workspace.data / "validation")
    losses = []
    for index in range(len(validation)):
        policy_sums, counts = stock_sums(policy, validation[index])
        base_sums, _ = stock_sums(base, validation[index])
        beta, gamma = float(settings["beta"]), float(settings.get("gamma", 0))
        chosen, rejected = policy_sums / counts
        match settings["loss"]:
            case "DPO":
                ratios = policy_sums - base_sums
                losses.append(-logsigmoid(beta * (ratios[0] - ratios[1])))
            case "SimPO":
                losses.append(-logsigmoid(beta * (chosen - rejected) - gamma))
            case "ORPO":
                odds = [mean - torch.log1p(-torch.exp(mean)) for mean in (chosen, rejected)]
                losses.append(-chosen - beta * logsigmoid(odds[0] - odds[1]))
    return float(torch.stack(losses).mean())


def stock_sums(model: Any, pair: Example) -> tuple[torch.Tensor, torch.Tensor]:
    answers = answers_of(pair)
    longest = max(len(answer.tokens) for answer in answers)
    tokens = torch.zeros(2, longest, dtype=torch.long)
    labels = torch.full((2, longest), -100)
    mask = torch.zeros(2, longest, dtype=torch.long)
    for row, answer in enumerate(answers):
        length = len(answer.tokens)
        tokens[row, :length] = torch.from_numpy(answer.tokens.astype("int64"))
        mask[row, :length] = 1
        supervised = torch.from_numpy(answer.supervised.copy())
        labels[row, :length] = torch.where(supervised, tokens[row, :length], -100)
    with torch.no_grad():
        logits = model(input_ids=tokens, attention_mask=mask).logits[:, :-1].log_softmax(-1)
    labels = labels[:, 1:]
    wanted = labels != -100
    each = logits.gather(2, labels.clamp(min=0)[..., None])[..., 0] * wanted
    return each.sum(1), wanted.sum(1)


@pytest.mark.parametrize("settings", LOSSES, ids=NAMES)
@pytest.mark.parametrize("method", [LORA, FULL], ids=["lora", "full"])
def test_it_learns_what_is_preferred_and_its_loss_is_that_of_padded_pairs(
    method: dict[str, Any], settings: dict[str, str], tmp_path: Path
) -> None:
    workspace = workspace_of_pairs(tmp_path, train=32, validation=12)
    run = plan(method, task="Preference", epochs=4, learningRate="5e-3", preference=settings)
    _, result = train(run, workspace, Stop())
    assert result["validationLoss"] < result["baseValidationLoss"] - 0.05
    assert result["validationRewardAccuracy"] > 0.6
    assert result["validationRewardMargin"] > result["baseValidationRewardMargin"]
    base = AutoModelForCausalLM.from_pretrained(workspace.model).eval()
    assert mean_loss(workspace, base, base, settings) == pytest.approx(
        result["baseValidationLoss"], abs=1e-4
    )
    tuned = tuned_model(workspace)
    assert mean_loss(workspace, tuned, base, settings) == pytest.approx(
        result["validationLoss"], abs=1e-4
    )
    first = next(line for line in history(workspace) if "base_eval_loss" in line)
    if settings["loss"] == "DPO":
        assert first["base_eval_loss"] == pytest.approx(math.log(2), abs=1e-6)


def tuned_model(workspace: Workspace) -> Any:
    if workspace.merged.exists():
        return AutoModelForCausalLM.from_pretrained(workspace.merged).eval()
    base = AutoModelForCausalLM.from_pretrained(workspace.model)
    return PeftModel.from_pretrained(base, workspace.adapter).eval()


def test_a_reference_computed_before_is_the_one_computed_on_the_way(tmp_path: Path) -> None:
    """One epoch computes it with the adapter switched off, several remember it."""
    settings: dict[str, Any] = {"task": "Preference", "preference": DPO, "learningRate": "3e-3"}
    once = workspace_of_pairs(tmp_path / "once")
    train(plan(DROPOUT, epochs=1, scheduler={"type": "Constant"}, **settings), once, Stop())
    assert not (once.checkpoints / "reference-train.npy").exists()
    again = workspace_of_pairs(tmp_path / "again")
    run = plan(DROPOUT, epochs=2, scheduler={"type": "Constant"}, **settings)
    train(run, again, Stop())
    assert (again.checkpoints / "reference-train.npy").exists()
    one, other = (
        [line["loss"] for line in history(each) if "loss" in line] for each in (once, again)
    )
    assert other[: len(one)] == pytest.approx(one, rel=1e-5)


@pytest.mark.parametrize("harm", [Path.unlink, cut], ids=["lost", "cut off"])
def test_a_reference_is_of_the_base_also_when_its_file_was_harmed(
    harm: Callable[[Path], object], tmp_path: Path
) -> None:
    workspace = workspace_of_pairs(tmp_path)
    run = plan(FULL, task="Preference", epochs=2, learningRate="3e-3", preference=DPO)
    _, first = train(run, workspace, Stop())
    file = workspace.checkpoints / "reference-validation.npy"
    content = file.read_bytes()
    harm(file)
    _, second = train(run, workspace, Stop())
    assert file.read_bytes() == content
    assert second["validationLoss"] == first["validationLoss"]


def test_a_pair_is_never_torn_into_two_passes(tmp_path: Path) -> None:
    workspace = workspace_of_pairs(tmp_path)
    examples = Examples(workspace.data / "train")
    for index in range(len(examples)):
        chosen, rejected = answers_of(examples[index])
        assert chosen.tokens[0] == rejected.tokens[0]
        assert chosen.supervised.any()
        assert rejected.supervised.any()
