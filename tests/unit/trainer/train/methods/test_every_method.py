"""What must be true of every method: it learns, goes on, and what it leaves is what was trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from finetune_trainer.merge import stage as merge
from finetune_trainer.outcome import PreemptedError
from finetune_trainer.run import Merge, Run
from finetune_trainer.train import recipe
from finetune_trainer.train.methods.quantization import keep_trainable, nf4
from finetune_trainer.train.recipe import train
from finetune_trainer.train.stop import Stop
from finetune_trainer.workspace import Workspace
from unit.trainer.train.made import StopAfter, plan, prepared_workspace
from unit.trainer.train.methods.made import BOTTLENECK, IA3, LORA, VIRTUAL_TOKENS
from unit.trainer.train.runs import losses, stock_loss, weights

MERGED = {**LORA, **IA3}
EVERY = {**MERGED, **BOTTLENECK, **VIRTUAL_TOKENS}
# What has few values to train needs a higher rate to show anything in a dozen steps.
RATES = {
    "lora": "1e-2",
    "adapter": "1e-2",
    "ia3": "5e-2",
    "prompt": "1e-1",
    "prefix": "3e-1",
    "pTuning": "1e-2",
}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def each(methods: dict[str, dict[str, Any]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("method", methods.values(), ids=methods)


def run_of(method: dict[str, Any], **training: Any) -> Run:
    (name,) = method
    return plan(method, learningRate=RATES[name], **training)


def base_of(workspace: Workspace, method: dict[str, Any]) -> Any:
    (settings,) = method.values()
    if "quantization" not in settings:
        return AutoModelForCausalLM.from_pretrained(workspace.model)
    model = AutoModelForCausalLM.from_pretrained(
        workspace.model,
        quantization_config=nf4(workspace.model, settings.get("modulesToSave", []), torch.float32),
    )
    keep_trainable(model)
    return model


@each(EVERY)
def test_it_learns_and_its_adapter_works_in_stock_peft(
    method: dict[str, Any], tmp_path: Path
) -> None:
    workspace = prepared_workspace(tmp_path)
    _, result = train(run_of(method, epochs=4, evaluateEverySteps=3), workspace, Stop())
    assert result["validationLoss"] < result["baseValidationLoss"] - 0.1
    base = base_of(workspace, method)
    assert result["baseValidationLoss"] == pytest.approx(stock_loss(base, workspace), abs=2e-4)
    tuned = PeftModel.from_pretrained(base, workspace.adapter)
    assert stock_loss(tuned, workspace) == pytest.approx(result["validationLoss"], abs=2e-4)
    if "PiSSA" in str(method) or "OLoRA" in str(method):
        return  # an adapter of twice the rank
    config = PeftConfig.from_pretrained(workspace.adapter)
    config.inference_mode = False
    counted = get_peft_model(base_of(workspace, method), config).get_nb_trainable_parameters()[0]
    assert counted == result["trainableParameters"]


@each(EVERY)
def test_a_resumed_run_equals_the_uninterrupted_one_bit_for_bit(
    method: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(method, epochs=2)
    straight = prepared_workspace(tmp_path / "straight")
    _, expected = train(run, straight, Stop())
    stopped = prepared_workspace(tmp_path / "stopped")
    with monkeypatch.context() as patch:
        stop = StopAfter(3).arm(recipe, patch)
        with pytest.raises(PreemptedError):
            train(run, stopped, stop)
    # What is drawn before the first step may not matter to a run that goes on.
    torch.manual_seed(7)
    _, result = train(run, stopped, Stop())
    assert result["resumedFromStep"] == 3
    assert losses(stopped) == losses(straight)
    assert result["validationLoss"] == expected["validationLoss"]
    resumed = weights(stopped)
    for name, tensor in weights(straight).items():
        assert torch.equal(resumed[name], tensor), name


@each(MERGED)
@pytest.mark.parametrize("precision", ["Float32", "Bfloat16"])
def test_the_merged_model_is_what_was_trained(
    method: dict[str, Any], precision: str, tmp_path: Path
) -> None:
    workspace = prepared_workspace(tmp_path)
    quantized = "quantization" in method.get("lora", {})
    run = run_of(method, epochs=2, precision=precision).model_copy(
        update={"merge": Merge(base="Dequantized" if quantized else "Original")}
    )
    _, result = train(run, workspace, Stop())
    write_result(workspace, result)
    # The stage itself compares its logits with those of base and adapter.
    _, merged = merge(run, workspace)
    model = AutoModelForCausalLM.from_pretrained(workspace.merged)
    tolerance = 5e-4 if precision == "Float32" else 0.05
    assert stock_loss(model, workspace) == pytest.approx(result["validationLoss"], abs=tolerance)
    assert merged["relativeLogitDifference"] < (1e-3 if precision == "Float32" else 1e-2)


def write_result(workspace: Workspace, result: dict[str, Any]) -> None:
    file = workspace.result("train")
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps({"stage": "train", "outcome": "Succeeded", "result": result}))
