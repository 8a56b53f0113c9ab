from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import IA3Config, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, Qwen2Config

from finetune_trainer.merge import stage
from finetune_trainer.outcome import DefectError, UserError, run_stage
from finetune_trainer.workspace import Workspace
from unit.trainer.artifacts import save_adapter, save_base, tiny_run
from unit.trainer.tiny import SMALL

IDS = torch.tensor([[5, 80, 17, 95, 3, 60, 41, 8]])


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def merged_weights(workspace: Workspace) -> dict[str, torch.Tensor]:
    files = sorted(workspace.merged.glob("*.safetensors"))
    return {name: value for file in files for name, value in load_file(file).items()}


def by_peft(workspace: Workspace, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    base = AutoModelForCausalLM.from_pretrained(workspace.model, dtype=dtype)
    merged = PeftModel.from_pretrained(base, str(workspace.adapter)).merge_and_unload()
    return dict(merged.state_dict())


def logits(directory: Path) -> torch.Tensor:
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    with torch.no_grad():
        return model(IDS).logits


def prepare(workspace: Workspace, adapter: dict[str, Any] | None = None, **model: Any) -> PeftModel:
    base = save_base(workspace.model, **model)
    return save_adapter(workspace.adapter, base, **(adapter or {}))


@pytest.mark.parametrize(
    "adapter",
    [
        {},
        {"use_rslora": True},
        {"use_dora": True},
        {"use_dora": True, "target_modules": ["embed_tokens", "q_proj"]},
        {"alpha_pattern": {"q_proj": 32}, "rank_pattern": {"layers.1.mlp.up_proj": 2}},
        {"target_modules": ["q_proj", "v_proj"]},
        {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
        {"target_modules": ["embed_tokens", "q_proj"]},
        {"target_modules": ["lm_head"]},
    ],
    ids=[
        "all-linear",
        "rslora",
        "dora",
        "dora-embedding",
        "patterns",
        "attention",
        "saved-module",
        "embedding",
        "head",
    ],
)
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_the_merged_model_computes_what_base_and_adapter_compute(
    workspace: Workspace, adapter: dict[str, Any], tied: bool
) -> None:
    tuned = prepare(workspace, adapter, tied=tied)
    with torch.no_grad():
        expected = tuned(IDS).logits
    stage(tiny_run(), workspace)
    torch.testing.assert_close(logits(workspace.merged), expected, atol=1e-5, rtol=1e-5)


def test_every_weight_equals_pefts_merge(workspace: Workspace) -> None:
    prepare(workspace, tied=False)
    _, result = stage(tiny_run(), workspace)
    expected, ours = by_peft(workspace), merged_weights(workspace)
    assert set(ours) == set(expected)
    for name, value in ours.items():
        torch.testing.assert_close(value, expected[name], atol=1e-6, rtol=0)
    assert result["merged"] == "merged"
    assert result["tensorsMerged"] == 2 * 7
    assert result["relativeLogitDifference"] < 1e-5


def test_bfloat16_is_the_float32_merge_rounded_once(workspace: Workspace) -> None:
    prepare(workspace, tied=False, dtype=torch.bfloat16)
    stage(tiny_run(), workspace)
    expected, ours = by_peft(workspace), merged_weights(workspace)
    for name, value in ours.items():
        assert value.dtype == torch.bfloat16
        assert torch.equal(value, expected[name].to(torch.bfloat16)), name
    assert json.loads((workspace.merged / "config.json").read_text())["dtype"] == "bfloat16"


def test_a_precision_asked_for_is_the_precision_written(workspace: Workspace) -> None:
    prepare(workspace, tied=False, dtype=torch.bfloat16)
    stage(tiny_run(merge={"precision": "Float32"}), workspace)
    expected, ours = by_peft(workspace), merged_weights(workspace)
    for name, value in ours.items():
        torch.testing.assert_close(value, expected[name], atol=1e-6, rtol=0)
    assert json.loads((workspace.merged / "config.json").read_text())["dtype"] == "float32"


def test_a_sharded_base_gives_the_same_shards_and_a_right_index(workspace: Workspace) -> None:
    prepare(workspace, tied=False, shard_size="60KB")
    stage(tiny_run(), workspace)
    index = json.loads((workspace.merged / "model.safetensors.index.json").read_text())
    names = {file.name for file in workspace.model.glob("*.safetensors")}
    assert len(names) > 1
    assert {file.name for file in workspace.merged.glob("*.safetensors")} == names
    ours = merged_weights(workspace)
    assert index["metadata"]["total_size"] == sum(value.nbytes for value in ours.values())
    for name, file in index["weight_map"].items():
        assert name in load_file(workspace.merged / file)
    torch.testing.assert_close(ours, by_peft(workspace), atol=1e-6, rtol=0)


def test_tied_embeddings_stay_one_tensor_when_neither_end_was_trained(workspace: Workspace) -> None:
    prepare(workspace, tied=True)
    stage(tiny_run(), workspace)
    assert "lm_head.weight" not in merged_weights(workspace)
    assert json.loads((workspace.merged / "config.json").read_text())["tie_word_embeddings"] is True


def test_a_trained_head_is_parted_from_the_embedding(workspace: Workspace) -> None:
    prepare(workspace, {"target_modules": ["lm_head"]}, tied=True, shard_size="60KB")
    stage(tiny_run(), workspace)
    ours = merged_weights(workspace)
    embedding = ours["model.embed_tokens.weight"]
    assert not torch.equal(ours["lm_head.weight"], embedding)
    base = AutoModelForCausalLM.from_pretrained(workspace.model)
    assert torch.equal(embedding, base.get_input_embeddings().weight)
    assert not json.loads((workspace.merged / "config.json").read_text())["tie_word_embeddings"]


@pytest.mark.parametrize("dora", [False, True], ids=["lora", "dora"])
def test_conv1d_weights_are_changed_along_their_own_axes(workspace: Workspace, dora: bool) -> None:
    torch.manual_seed(0)
    # c_attn and c_proj: one tells its layout by its shape, the square one does not.
    base = GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=2, n_head=2, vocab_size=259)).eval()
    base.save_pretrained(workspace.model)
    save_adapter(workspace.adapter, base, target_modules=["c_attn", "c_proj"], use_dora=dora)
    expected = by_peft(workspace)
    stage(tiny_run(), workspace)
    for name, value in merged_weights(workspace).items():
        torch.testing.assert_close(value, expected[name], atol=1e-6, rtol=0)


def test_a_checkpoint_without_the_models_prefix_is_merged_too(workspace: Workspace) -> None:
    tuned = prepare(workspace, tied=True)
    file = workspace.model / "model.safetensors"
    short = {name.removeprefix("model."): value for name, value in load_file(file).items()}
    save_file(short, file, metadata={"format": "pt"})
    stage(tiny_run(), workspace)
    assert set(merged_weights(workspace)) == set(short)
    with torch.no_grad():
        torch.testing.assert_close(logits(workspace.merged), tuned(IDS).logits, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["gpt2", "qwen2"])
def test_factors_scale_rows_with_their_bias_or_columns(workspace: Workspace, kind: str) -> None:
    torch.manual_seed(0)
    # Conv1D has its axes the other way round; Qwen 2's keys and values have a bias.
    if kind == "gpt2":
        base = GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=2, n_head=2, vocab_size=259)).eval()
    else:
        base = AutoModelForCausalLM.from_config(Qwen2Config(**SMALL)).eval()
    for name, parameter in base.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter)
    base.save_pretrained(workspace.model)
    tuned = get_peft_model(base, IA3Config(task_type="CAUSAL_LM"))
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "ia3_l" in name:
                parameter.normal_(1, 0.3)
    tuned.save_pretrained(workspace.adapter)
    expected = by_peft(workspace)
    _, result = stage(tiny_run(), workspace)
    assert result["relativeLogitDifference"] < 1e-5
    for name, value in merged_weights(workspace).items():
        torch.testing.assert_close(value, expected[name], atol=1e-6, rtol=0)


def test_an_adapter_key_without_a_counterpart_is_an_error(workspace: Workspace) -> None:
    prepare(workspace)
    file = workspace.adapter / "adapter_model.safetensors"
    tensors = load_file(file)
    for part in ("lora_A", "lora_B"):
        old = f"base_model.model.model.layers.0.mlp.up_proj.{part}.weight"
        tensors[old.replace("layers.0", "layers.7")] = tensors.pop(old)
    save_file(tensors, file)
    with pytest.raises(DefectError, match=r"model\.layers\.7\.mlp\.up_proj\.weight"):
        stage(tiny_run(), workspace)
    assert not workspace.merged.exists()


def test_a_lone_factor_is_an_error(workspace: Workspace) -> None:
    prepare(workspace)
    file = workspace.adapter / "adapter_model.safetensors"
    tensors = load_file(file)
    del tensors["base_model.model.model.layers.0.mlp.up_proj.lora_B.weight"]
    save_file(tensors, file)
    with pytest.raises(DefectError, match="only one of the two factors"):
        stage(tiny_run(), workspace)


def test_an_adapter_of_dora_without_its_norms_is_an_error(workspace: Workspace) -> None:
    prepare(workspace, {"use_dora": True})
    file = workspace.adapter / "adapter_model.safetensors"
    lost = "base_model.model.model.layers.0.mlp.up_proj.lora_magnitude_vector"
    tensors = {name: value for name, value in load_file(file).items() if name != lost}
    save_file(tensors, file)
    with pytest.raises(DefectError, match=r"holds no norms for model\.layers\.0\.mlp\.up_proj"):
        stage(tiny_run(), workspace)


def test_an_adapter_that_changes_nothing_is_an_error(workspace: Workspace) -> None:
    prepare(workspace)
    file = workspace.adapter / "adapter_model.safetensors"
    untrained = {k: v * 0 if "lora_B" in k else v for k, v in load_file(file).items()}
    save_file(untrained, file)
    with pytest.raises(UserError, match="equals the base"):
        stage(tiny_run(), workspace)


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ({"lora_bias": True}, "uses lora_bias"),
        ({"init_lora_weights": "pissa"}, "pissa"),
        ({"peft_type": "VERA"}, "type VERA"),
        ({"a_setting_of_the_future": {"x": 1}}, "a_setting_of_the_future"),
    ],
)
def test_an_adapter_of_another_kind_is_refused(
    workspace: Workspace, setting: dict[str, Any], reason: str
) -> None:
    prepare(workspace)
    file = workspace.adapter / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | setting))
    with pytest.raises(UserError, match=reason):
        stage(tiny_run(), workspace)


def test_a_wrong_merge_does_not_pass_its_check(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No input causes this: the fault is one that the code might have.
    prepare(workspace, dtype=torch.bfloat16)
    monkeypatch.setattr("finetune_trainer.merge.lora.scale_of", lambda *_: 1.0)
    with pytest.raises(DefectError, match="not what was trained"):
        stage(tiny_run(), workspace)
    assert not workspace.merged.exists()


def test_what_surrounds_the_weights_comes_along_and_nothing_stale(workspace: Workspace) -> None:
    prepare(workspace)
    (workspace.model / "README.md").write_text("the base's card")
    (workspace.model / "LICENSE").write_text("terms")
    (workspace.model / "consolidated.00.pth").write_bytes(b"old weights")
    (workspace.model / "pytorch_model.bin.index.json").write_text("{}")
    stage(tiny_run(), workspace)
    names = {file.name for file in workspace.merged.iterdir()}
    assert {"tokenizer.json", "chat_template.jinja", "generation_config.json", "LICENSE"} <= names
    assert not names & {"README.md", "consolidated.00.pth", "pytorch_model.bin.index.json"}


def test_a_second_call_after_success_changes_nothing(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FINETUNE_TERMINATION_LOG", str(tmp_path / "termination-log"))
    prepare(workspace)
    assert run_stage("merge", lambda: stage(tiny_run(), workspace), workspace) == 0
    first = (workspace.merged / "model.safetensors").stat()
    said = workspace.result("merge").read_text()
    assert run_stage("merge", lambda: stage(tiny_run(), workspace), workspace) == 0
    assert (workspace.merged / "model.safetensors").stat() == first
    assert workspace.result("merge").read_text() == said


def test_a_call_with_other_settings_merges_anew(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FINETUNE_TERMINATION_LOG", str(tmp_path / "termination-log"))
    prepare(workspace, tied=False, dtype=torch.bfloat16)
    for precision, dtype in (("Auto", torch.bfloat16), ("Float32", torch.float32)):
        run = tiny_run(merge={"precision": precision})
        assert run_stage("merge", partial(stage, run, workspace), workspace) == 0
        assert {value.dtype for value in merged_weights(workspace).values()} == {dtype}


def test_a_merge_that_was_killed_is_not_taken_for_the_one_before(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FINETUNE_TERMINATION_LOG", str(tmp_path / "termination-log"))
    prepare(workspace, tied=False, dtype=torch.bfloat16)
    assert run_stage("merge", lambda: stage(tiny_run(), workspace), workspace) == 0
    # Killed after its files were there and before its result was.
    stage(tiny_run(merge={"precision": "Float32"}), workspace)
    stage(tiny_run(), workspace)
    assert {value.dtype for value in merged_weights(workspace).values()} == {torch.bfloat16}


@pytest.mark.parametrize("dora", [False, True], ids=["lora", "dora"])
def test_memory_does_not_bound_the_tensor(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, dora: bool
) -> None:
    prepare(workspace, {"use_dora": dora}, tied=False)
    # Blocks of a few rows that do not divide the tensors: the seams must not show.
    monkeypatch.setattr("finetune_trainer.merge.shards._BLOCK_ELEMENTS", 32 * 7)
    stage(tiny_run(), workspace)
    torch.testing.assert_close(merged_weights(workspace), by_peft(workspace), atol=1e-6, rtol=0)


def test_a_base_of_one_numbered_shard_gives_a_model_that_loads(workspace: Workspace) -> None:
    tuned = prepare(workspace)
    numbered = "model-00001-of-00001.safetensors"
    (workspace.model / "model.safetensors").rename(workspace.model / numbered)
    names = load_file(workspace.model / numbered)
    index = {"metadata": {}, "weight_map": dict.fromkeys(names, numbered)}
    (workspace.model / "model.safetensors.index.json").write_text(json.dumps(index))
    stage(tiny_run(), workspace)
    with torch.no_grad():
        torch.testing.assert_close(logits(workspace.merged), tuned(IDS).logits, atol=1e-5, rtol=0)
