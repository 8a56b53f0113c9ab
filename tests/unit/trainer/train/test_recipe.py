"""The algorithm on a tiny model: what it learns does not depend on how the work is cut."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from finetune_trainer.outcome import (
    NonFiniteLossError,
    PreemptedError,
    UserError,
)
from finetune_trainer.train import checkpoint, export, setup
from finetune_trainer.train import recipe as subject
from finetune_trainer.train.engines import base
from finetune_trainer.train.model import trainable_parameters
from finetune_trainer.train.probe import Abilities
from finetune_trainer.train.recipe import train
from finetune_trainer.train.stop import Stop
from finetune_trainer.workspace import Workspace
from unit.trainer.train.made import StopAfter, plan, prepared_workspace
from unit.trainer.train.runs import losses, stock_loss, weights

FULL: dict[str, Any] = {"full": {}}
LORA: dict[str, Any] = {"lora": {"rank": 4, "alpha": 8, "dropout": "0"}}
LORA_PLUS: dict[str, Any] = {"lora": {"rank": 4, "alpha": 8, "loraPlusRatio": "8"}}
DROPOUT: dict[str, Any] = {"lora": {"rank": 4, "alpha": 8, "dropout": "0.2"}}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def assert_same_training(one: Workspace, other: Workspace, tolerance: float) -> None:
    assert losses(other) == pytest.approx(losses(one), rel=tolerance, abs=tolerance)
    expected = weights(one)
    for name, tensor in weights(other).items():
        torch.testing.assert_close(tensor, expected[name], rtol=tolerance, atol=tolerance)


def test_lora_learns_and_its_adapter_works_in_stock_peft(tmp_path: Path) -> None:
    workspace = prepared_workspace(tmp_path)
    message, result = train(plan(LORA, epochs=4), workspace, Stop())
    assert result["validationLoss"] < result["baseValidationLoss"] - 0.3
    assert result["steps"] == result["totalSteps"] == 12
    assert result["epoch"] == 4.0
    assert result["trainableParameters"] > 0
    assert result["peakMemoryBytes"] > 0
    assert result["precision"] == "float32"
    assert message.startswith("12 steps, validation loss 5.4")
    base = AutoModelForCausalLM.from_pretrained(workspace.model)
    tuned = PeftModel.from_pretrained(base, workspace.adapter)
    assert stock_loss(tuned, workspace) == pytest.approx(result["validationLoss"], abs=1e-4)
    with tuned.disable_adapter():
        assert stock_loss(tuned, workspace) == pytest.approx(result["baseValidationLoss"], abs=1e-4)


def test_the_adapter_names_its_base_as_the_hub_does(tmp_path: Path) -> None:
    workspace = prepared_workspace(tmp_path)
    result = {"modelCommit": "c0ffee"}
    workspace.result("prepare").parent.mkdir()
    workspace.result("prepare").write_text(json.dumps({"outcome": "Succeeded", "result": result}))
    train(plan(LORA, maxSteps=1), workspace, Stop())
    config = json.loads((workspace.adapter / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert config["revision"] == "c0ffee"


def test_full_training_leaves_a_whole_model_in_the_base_format(tmp_path: Path) -> None:
    workspace = prepared_workspace(tmp_path)
    _, result = train(plan(FULL, epochs=2), workspace, Stop())
    assert result["merged"] == "merged"
    model = AutoModelForCausalLM.from_pretrained(workspace.merged)
    assert stock_loss(model, workspace) == pytest.approx(result["validationLoss"], abs=1e-4)
    tokenizer = AutoTokenizer.from_pretrained(workspace.merged)
    assert "<|im_start|>" in tokenizer.apply_chat_template(
        [{"role": "user", "content": "hi"}], tokenize=False
    )


@pytest.mark.parametrize("method", [LORA, FULL], ids=["lora", "full"])
def test_the_split_into_micro_batches_changes_nothing(
    method: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = prepared_workspace(tmp_path / "one")
    train(plan(method, epochs=2, packing=False, sequenceLength=512), one, Stop())
    several = prepared_workspace(tmp_path / "several")
    train(plan(method, epochs=2, packing=False, sequenceLength=25), several, Stop())
    assert_same_training(one, several, 1e-5)


def test_padded_rows_learn_the_same_as_shared_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = prepared_workspace(tmp_path / "shared")
    train(plan(LORA, epochs=2), shared, Stop())
    monkeypatch.setattr(
        setup,
        "probe",
        lambda *_: Abilities(shared_rows=False, shared_prefixes=False, separable_head=False),
    )
    padded = prepared_workspace(tmp_path / "padded")
    train(plan(LORA, epochs=2), padded, Stop())
    assert_same_training(shared, padded, 1e-5)


def test_gradient_checkpointing_changes_nothing(tmp_path: Path) -> None:
    without = prepared_workspace(tmp_path / "without")
    train(plan(DROPOUT, epochs=1), without, Stop())
    checkpointed = prepared_workspace(tmp_path / "checkpointed")
    train(plan(DROPOUT, epochs=1, gradientCheckpointing=True), checkpointed, Stop())
    assert_same_training(without, checkpointed, 1e-5)


@pytest.mark.parametrize(
    "method", [DROPOUT, LORA_PLUS, FULL], ids=["lora with dropout", "lora+", "full"]
)
def test_a_stopped_and_resumed_run_equals_the_uninterrupted_one_bit_for_bit(
    method: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = plan(method, epochs=3, weightDecay="0.1")
    straight = prepared_workspace(tmp_path / "straight")
    _, expected = train(run, straight, Stop())
    stopped = prepared_workspace(tmp_path / "stopped")
    with monkeypatch.context() as patch:
        stop = StopAfter(4).arm(subject, patch)
        with pytest.raises(PreemptedError, match="after step 4 of 9; a checkpoint is saved"):
            train(run, stopped, stop)
    _, result = train(run, stopped, Stop())
    assert result["resumedFromStep"] == 4
    assert losses(stopped) == losses(straight)
    assert result["baseValidationLoss"] == expected["baseValidationLoss"]
    assert result["validationLoss"] == expected["validationLoss"]
    resumed = weights(stopped)
    for name, tensor in weights(straight).items():
        assert torch.equal(resumed[name], tensor), name


def test_what_fails_after_the_last_step_costs_no_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = prepared_workspace(tmp_path)
    run = plan(LORA, maxSteps=3)

    def lose_the_pod(*args: Any) -> None:
        raise OSError("the volume is gone")

    with monkeypatch.context() as patch:
        patch.setattr(export, "save_adapter", lose_the_pod)
        with pytest.raises(OSError, match="the volume is gone"):
            train(run, workspace, Stop())
    assert [path.name for path in checkpoint.steps(workspace.checkpoints)] == ["step-3"]
    monkeypatch.setattr(base, "clip", lose_the_pod)  # a further step would fail
    _, result = train(run, workspace, Stop())
    assert result["resumedFromStep"] == 3
    assert result["validationLoss"] < result["baseValidationLoss"]
    assert workspace.adapter.is_dir()


def test_sigterm_before_the_first_step_ends_at_once_with_nothing_to_save(tmp_path: Path) -> None:
    stop = Stop().install()
    with pytest.raises(PreemptedError, match="before the first step"):
        signal.raise_signal(signal.SIGTERM)
    with pytest.raises(PreemptedError):
        stop.defer()


@pytest.mark.parametrize("validation", [0, 6], ids=["without validation", "with validation"])
def test_weights_that_the_last_step_broke_are_not_exported(validation: int, tmp_path: Path) -> None:
    workspace = prepared_workspace(tmp_path, validation=validation)
    # The only step's own loss and gradient are finite.
    run = plan(FULL, maxSteps=1, learningRate="1e39")
    with pytest.raises(
        NonFiniteLossError, match=r"are NaN or infinite .*spec\.training\.learningR"
    ):
        train(run, workspace, Stop())
    assert not workspace.merged.exists()
    assert not checkpoint.steps(workspace.checkpoints)


def test_rslora_weights_the_update_by_the_root_of_the_rank(tmp_path: Path) -> None:
    one = prepared_workspace(tmp_path / "one")
    other = prepared_workspace(tmp_path / "other")
    rslora = {"lora": {"rank": 4, "alpha": 4, "dropout": "0", "rslora": True}}
    train(plan(LORA, epochs=2), one, Stop())
    # alpha / sqrt(rank) = 4 / 2 is LORA's 8 / 4.
    train(plan(rslora, epochs=2), other, Stop())
    assert_same_training(one, other, 1e-6)
    config = json.loads((other.adapter / "adapter_config.json").read_bytes())
    assert config["use_rslora"]


def test_named_target_modules_are_the_only_ones_trained(tmp_path: Path) -> None:
    workspace = prepared_workspace(tmp_path)
    run = plan({"lora": {"rank": 4, "alpha": 8, "targetModules": ["q_proj"]}}, maxSteps=2)
    train(run, workspace, Stop())
    assert all("q_proj" in name for name in weights(workspace))


@pytest.mark.parametrize(
    ("method", "remedy"),
    [(LORA, "out of spec.method.lora.targetModules"), (FULL, "set spec.method.lora")],
    ids=["lora", "full"],
)
def test_tensors_that_training_does_not_reach_are_an_error(
    method: dict[str, Any], remedy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = prepared_workspace(tmp_path)

    def with_an_idle_one(model: Any) -> dict[str, torch.nn.Parameter]:
        return {**trainable_parameters(model), "idle": torch.nn.Parameter(torch.ones(3))}

    monkeypatch.setattr(base, "trainable_parameters", with_an_idle_one)
    with pytest.raises(UserError, match=rf"1 of \d+ .* in 2 steps \(idle\).*{remedy}"):
        train(plan(method, epochs=1), workspace, Stop())


def test_updates_that_rounding_swallows_are_no_error(tmp_path: Path) -> None:
    workspace = prepared_workspace(tmp_path)
    _, result = train(plan(FULL, epochs=1, learningRate="1e-30"), workspace, Stop())
    assert result["steps"] == 3


def test_without_a_validation_split_the_summary_tells_the_training_loss(tmp_path: Path) -> None:
    workspace = prepared_workspace(tmp_path, validation=0)
    message, result = train(plan(LORA, maxSteps=5, logEverySteps=2), workspace, Stop())
    assert "(first → last step)" in message
    assert "validationLoss" not in result
    steps = [json.loads(line)["step"] for line in workspace.history.read_text().splitlines()]
    assert steps == [2, 4, 5]


def test_max_steps_go_beyond_one_epoch(tmp_path: Path) -> None:
    workspace = prepared_workspace(tmp_path, train=5)
    _, result = train(plan(LORA, maxSteps=7, epochs=None), workspace, Stop())
    assert result["steps"] == 7
    assert result["epoch"] > 1


def test_validation_is_measured_on_the_way_when_asked_for(tmp_path: Path) -> None:
    workspace = prepared_workspace(tmp_path)
    train(plan(LORA, maxSteps=5, evaluateEverySteps=2), workspace, Stop())
    lines = [json.loads(line) for line in workspace.history.read_text().splitlines()]
    assert [line["step"] for line in lines if "base_eval_loss" in line] == [0]
    assert [line["step"] for line in lines if "eval_loss" in line] == [2, 4, 5]


@pytest.mark.parametrize("method", [LORA, FULL], ids=["lora", "full"])
def test_bfloat16_stays_close_to_float32(method: dict[str, Any], tmp_path: Path) -> None:
    exact = prepared_workspace(tmp_path / "float32")
    train(plan(method, epochs=3, learningRate="2e-3"), exact, Stop())
    rounded = prepared_workspace(tmp_path / "bfloat16")
    train(plan(method, epochs=3, learningRate="2e-3", precision="Bfloat16"), rounded, Stop())
    assert losses(exact)[-1] < losses(exact)[0] - 0.01
    assert losses(rounded) == pytest.approx(losses(exact), abs=0.03)
