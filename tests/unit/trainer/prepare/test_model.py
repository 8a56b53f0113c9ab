"""Which files of a repository make a model, and which models can be trained."""

import json
from pathlib import Path

import pytest

from finetune_trainer.outcome import UserError
from finetune_trainer.prepare.model import choose_files, choose_weights
from finetune_trainer.prepare.suitability import read_config

TOKENIZER = ["tokenizer.json", "tokenizer_config.json"]


def test_one_file_of_weights_with_its_companions(tmp_path: Path) -> None:
    extra = ["README.md", "onnx/model.onnx", "original/params.json", "pytorch_model.bin", "a.gguf"]
    names = ["config.json", "model.safetensors", "chat_template.jinja", "LICENSE", *TOKENIZER]
    assert choose_files([*names, *extra], "M") == sorted(names)
    assert choose_weights(tmp_path, names, "M") == ["model.safetensors"]


def write_index(directory: Path, files: list[str]) -> None:
    weight_map = {f"weight.{number}": file for number, file in enumerate(files)}
    index = json.dumps({"weight_map": weight_map})
    (directory / "model.safetensors.index.json").write_text(index)


def test_the_shards_of_the_index_but_no_other_weights(tmp_path: Path) -> None:
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    write_index(tmp_path, shards)
    names = [*shards, "consolidated.safetensors", "model.safetensors"]
    assert choose_weights(tmp_path, names, "M") == shards


def test_a_shard_of_the_index_that_is_not_there_is_named(tmp_path: Path) -> None:
    write_index(tmp_path, ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"])
    with pytest.raises(UserError, match=r"has no model-00002-of-00002\.safetensors.*spec\.model"):
        choose_weights(tmp_path, ["model-00001-of-00002.safetensors"], "M")


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["config.json", "pytorch_model.bin"], "M has only pytorch_model.bin: set spec.model"),
        (["config.json"], "M has no weights"),
        (["adapter_config.json", "adapter_model.safetensors"], "M is a LoRA adapter"),
        (["model.gguf"], "M has no config.json"),
    ],
)
def test_what_is_no_whole_model_is_refused(names: list[str], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        choose_files(names, "M")


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"model_type": "t5"}, r"not a causal language model \(t5\)"),
        (
            {"model_type": "llama", "architectures": ["LlamaForSequenceClassification"]},
            r"not a causal language model \(LlamaForSequenceClassification\)",
        ),
        ({"model_type": "never-heard-of"}, "cannot be read by transformers"),
        (
            {"model_type": "custom", "auto_map": {"AutoConfig": "configuration.Custom"}},
            "without code of its own",
        ),
        (
            {"model_type": "llama", "quantization_config": {"quant_method": "gptq"}},
            r"already quantized \(gptq\)",
        ),
    ],
)
def test_what_cannot_be_trained_is_refused(
    tmp_path: Path, config: dict[str, object], sentence: str
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=sentence):
        read_config(tmp_path, "M")


def test_a_causal_model_passes(tmp_path: Path) -> None:
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert read_config(tmp_path, "M").model_type == "llama"
