"""What prepare decides about a model reaches what is published, by both ways of training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from finetune_trainer import merge, prepare
from finetune_trainer.outcome import UserError, run_stage
from finetune_trainer.publish.contents import contents
from finetune_trainer.run import Run, Upload
from finetune_trainer.train.model import load_base
from finetune_trainer.train.recipe import train
from finetune_trainer.train.stop import Stop
from finetune_trainer.workspace import Workspace
from unit.trainer.prepare.plans import plan, questions, write_rows
from unit.trainer.tiny import CHATML, VOCABULARY, write_tiny_model

LORA: dict[str, Any] = {"lora": {"rank": 4, "alpha": 8}}
FULL: dict[str, Any] = {"lora": None, "full": {}}
END_OF_TURN, END_OF_TEXT = VOCABULARY.index("<|im_end|>"), VOCABULARY.index("<unk>")
OWN_TEMPLATE = CHATML.replace("\n", "")


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A base model that ends its texts by another token than a chat template's turns."""
    root = tmp_path / "sources"
    write_tiny_model(root / "model" / "base", eos_token_id=END_OF_TEXT)
    write_rows(root / "dataset" / "rows.jsonl", questions(8))
    monkeypatch.setenv("FINETUNE_SOURCES", str(root))
    monkeypatch.setenv("FINETUNE_TERMINATION_LOG", str(tmp_path / "log"))
    return root


def through_all_stages(run: Run, workspace: Workspace) -> None:
    assert run_stage("prepare", lambda: prepare.stage(run, workspace), workspace) == 0
    assert run_stage("train", lambda: train(run, workspace, Stop()), workspace) == 0
    if run.method.lora:
        assert run_stage("merge", lambda: merge.stage(run, workspace), workspace) == 0


def run_of(method: dict[str, Any], **model: Any) -> Run:
    return plan(
        model={"source": "pvc://models/base", **model},
        method=method,
        training={"epochs": None, "maxSteps": 2, "learningRate": "1e-2", "precision": "Float32"},
    )


@pytest.mark.parametrize("method", [LORA, FULL], ids=["lora", "full"])
def test_a_tuned_base_model_stops_where_it_was_trained_to(
    sources: Path, tmp_path: Path, method: dict[str, Any]
) -> None:
    workspace = Workspace(tmp_path / "workspace")
    through_all_stages(run_of(method), workspace)
    model = AutoModelForCausalLM.from_pretrained(workspace.merged)
    assert model.generation_config.eos_token_id == [END_OF_TEXT, END_OF_TURN]
    said = json.loads((workspace.merged / "generation_config.json").read_text())
    assert said["eos_token_id"] == [END_OF_TEXT, END_OF_TURN]
    assert said["pad_token_id"] == VOCABULARY.index("<pad>")


@pytest.mark.parametrize("method", [LORA, FULL], ids=["lora", "full"])
def test_the_runs_chat_template_goes_with_every_artefact(
    sources: Path, tmp_path: Path, method: dict[str, Any]
) -> None:
    workspace = Workspace(tmp_path / "workspace")
    run = run_of(method, chatTemplate=OWN_TEMPLATE)
    through_all_stages(run, workspace)
    assert AutoTokenizer.from_pretrained(workspace.merged).chat_template == OWN_TEMPLATE
    if run.method.lora:
        files = contents(run, Upload(repository="a/b", artifacts=["Adapter"]), workspace)
        template = files["chat_template.jinja"]
        assert isinstance(template, Path)
        assert template.read_text() == OWN_TEMPLATE


def test_a_model_that_stops_there_already_keeps_its_own_file(sources: Path, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "workspace")
    base = write_tiny_model(sources / "model" / "base", eos_token_id=[END_OF_TURN, END_OF_TEXT])
    prepare.stage(run_of(LORA), workspace)
    name = "generation_config.json"
    assert (workspace.model / name).read_bytes() == (base / name).read_bytes()


def test_another_plan_finds_the_models_own_stop_tokens(sources: Path, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "workspace")
    prepare.stage(run_of(LORA), workspace)
    weights = workspace.model / "model.safetensors"
    before = weights.stat().st_mtime_ns
    # Plain text ends with the tokenizer's own end token; here that is the base's too.
    base = sources / "model" / "base"
    settings = json.loads((base / "generation_config.json").read_text())
    assert settings["eos_token_id"] == END_OF_TEXT
    prepare.stage(run_of(LORA).model_copy(update={"plan_hash": "2222"}), workspace)
    said = json.loads((workspace.model / "generation_config.json").read_text())
    assert said["eos_token_id"] == [END_OF_TEXT, END_OF_TURN]
    assert weights.stat().st_mtime_ns == before


def test_train_too_refuses_a_model_that_would_be_partly_random(tmp_path: Path) -> None:
    file = write_tiny_model(tmp_path) / "model.safetensors"
    tensors = load_file(file)
    del tensors["model.layers.0.mlp.up_proj.weight"]
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"lack model\.layers\.0\.mlp\.up_proj\.weight"):
        load_base(tmp_path, dtype=torch.float32, device=torch.device("cpu"))
