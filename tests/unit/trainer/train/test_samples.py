"""Samples: what transformers' own generation answers, written down."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from finetune_trainer.data.examples import Examples
from finetune_trainer.outcome import PreemptedError
from finetune_trainer.train import recipe, samples, setup
from finetune_trainer.train.batches import Batch
from finetune_trainer.train.probe import Abilities
from finetune_trainer.train.recipe import train
from finetune_trainer.train.samples import FILE, LONGEST
from finetune_trainer.train.stop import Stop
from finetune_trainer.workspace import Workspace, json_lines
from unit.trainer.tiny import VOCABULARY
from unit.trainer.train.made import StopAfter, plan, prepared_workspace
from unit.trainer.train.runs import losses


def lines(workspace: Workspace) -> list[dict[str, object]]:
    return [json.loads(line) for line in json_lines(workspace.logs / FILE)]


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


def test_a_prompt_may_hold_what_ends_a_line_elsewhere(tmp_path: Path) -> None:
    workspace = prepared_workspace(tmp_path)
    separator = "\u2028"
    tokenizer = workspace.model / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text().replace('"~"', f'"{separator}"'), encoding="utf-8")
    tokens = np.lib.format.open_memmap(workspace.data / "validation" / "tokens.npy", mode="r+")
    tokens[0] = VOCABULARY.index("~")
    train(plan(maxSteps=2, evaluateEverySteps=1, samplesAtEvaluation=1), workspace, Stop())
    assert [line["step"] for line in lines(workspace)] == [0, 1, 2]
    assert all(separator in str(line["prompt"]) for line in lines(workspace))


def test_a_stop_is_heard_before_the_next_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = prepared_workspace(tmp_path)
    following = samples._next

    def stopped_after_the_first_step(trained: setup.Trained, batch: Batch) -> torch.Tensor:
        if losses(workspace):
            signal.raise_signal(signal.SIGTERM)
        return following(trained, batch)

    monkeypatch.setattr(samples, "_next", stopped_after_the_first_step)
    run = plan(maxSteps=3, evaluateEverySteps=1, samplesAtEvaluation=4)
    with pytest.raises(PreemptedError, match="after step 1 of 3; a checkpoint is saved"):
        train(run, workspace, Stop().install())
    assert {line["step"] for line in lines(workspace)} == {0}
