"""Samples: what transformers' own generation answers, written down."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from finetune_trainer.data.examples import Examples
from finetune_trainer.outcome import PreemptedError
from finetune_trainer.train import recipe, setup
from finetune_trainer.train.probe import Abilities
from finetune_trainer.train.recipe import train
from finetune_trainer.train.samples import FILE, LONGEST
from finetune_trainer.train.stop import Stop
from finetune_trainer.workspace import Workspace
from unit.trainer.train.made import StopAfter, plan, prepared_workspace


def lines(workspace: Workspace) -> list[dict[str, object]]:
    return [json.loads(line) for line in (workspace.logs / FILE).read_text().splitlines()]


def by_transformers(workspace: Workspace, index: int) -> str:
    """The tuned model's greedy answer to a validation prompt."""
    model = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(workspace.model), workspace.adapter
    ).eval()
    example = Examples(workspace.data / "validation")[index]
    prompt = torch.from_numpy(example.tokens[: int(np.argmax(example.supervised))].astype("int64"))
    answer = model.generate(
        input_ids=prompt[None],
        attention_mask=torch.ones(1, len(prompt)),
        do_sample=False,
        max_new_tokens=LONGEST,
    )
    tokenizer = AutoTokenizer.from_pretrained(workspace.model)
    return str(tokenizer.decode(answer[0, len(prompt) :]))


@pytest.mark.parametrize("padded", [False, True], ids=["per document", "stock attention"])
def test_the_samples_are_what_the_exported_model_answers(
    padded: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if padded:
        monkeypatch.setattr(
            setup,
            "probe",
            lambda *_: Abilities(False, False, False),
        )
    workspace = prepared_workspace(tmp_path)
    run = plan(maxSteps=4, evaluateEverySteps=2, samplesAtEvaluation=2)
    train(run, workspace, Stop())
    written = lines(workspace)
    assert [line["step"] for line in written] == [0, 0, 2, 2, 4, 4]  # of the base first
    for index, line in enumerate(written[-2:]):
        assert line["sample"] == by_transformers(workspace, index)
        assert line["prompt"]
        assert line["reference"]


def test_samples_change_nothing_in_what_is_learned(tmp_path: Path) -> None:
    without = prepared_workspace(tmp_path / "without")
    dropout = {"lora": {"rank": 4, "alpha": 8, "dropout": "0.2"}}
    _, expected = train(plan(dropout, epochs=1, evaluateEverySteps=1), without, Stop())
    sampled = prepared_workspace(tmp_path / "sampled")
    run = plan(dropout, epochs=1, evaluateEverySteps=1, samplesAtEvaluation=1)
    _, result = train(run, sampled, Stop())
    assert result["validationLoss"] == expected["validationLoss"]


def test_a_resumed_run_writes_each_sample_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = prepared_workspace(tmp_path)
    run = plan(maxSteps=4, evaluateEverySteps=1, samplesAtEvaluation=1)
    with monkeypatch.context() as patch, pytest.raises(PreemptedError):
        train(run, workspace, StopAfter(2).arm(recipe, patch))
    train(run, workspace, Stop())
    assert [line["step"] for line in lines(workspace)] == [0, 1, 2, 3, 4]
