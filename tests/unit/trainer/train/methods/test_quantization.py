"""NF4: which weights, what becomes of them, and that they stay fit for training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from bitsandbytes.functional import dequantize_4bit
from bitsandbytes.nn.modules import Linear4bit
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, PreTrainedModel

from finetune_trainer.run import Lora
from finetune_trainer.train.methods.lora import add_lora
from finetune_trainer.train.methods.quantization import (
    BYTES_PER_WEIGHT,
    nf4,
    quantize_later,
    quantized_linears,
    rounded_to_nf4,
)
from finetune_trainer.train.model import load_base
from unit.trainer.tiny import tiny_model, write_tiny_model

IDS = torch.tensor([[5, 80, 17, 95, 3, 60, 41, 8]])
WIDE = {"hidden_size": 64, "intermediate_size": 192}


def loaded(directory: Path, *kept: str, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    return load_base(
        directory,
        dtype=dtype,
        device=torch.device("cpu"),
        quantization=nf4(directory, kept, dtype),
    )


def quantized(model: PreTrainedModel) -> set[str]:
    return {name for name, module in model.named_modules() if isinstance(module, Linear4bit)}


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("kept", [(), ("lm_head",), ("down_proj", "model.layers.0.self_attn")])
def test_what_is_quantized_is_what_is_said_to_be(
    tied: bool, kept: tuple[str, ...], tmp_path: Path
) -> None:
    write_tiny_model(tmp_path, tie_word_embeddings=tied)
    names = quantized(loaded(tmp_path, *kept))
    assert names == set(quantized_linears(tiny_model(tie_word_embeddings=tied), kept))
    assert "model.layers.1.mlp.up_proj" in names
    assert "lm_head" not in names
    assert not any(name.endswith(part) for name in names for part in kept)


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_quantized_later_is_the_same(
    dtype: torch.dtype, architecture: str, tmp_path: Path
) -> None:
    if architecture == "llama":
        write_tiny_model(tmp_path, **WIDE)
    else:
        GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=1, n_head=2)).save_pretrained(tmp_path)
    expected = loaded(tmp_path, "c_proj", dtype=dtype)
    model = load_base(tmp_path, dtype="auto", device=torch.device("cpu"))
    quantize_later(model, ("c_proj",), dtype)
    assert quantized(model) == quantized(expected)
    for name in quantized(model):
        layer, other = model.get_submodule(name), expected.get_submodule(name)
        assert layer.weight.shape == other.weight.shape
        assert layer.weight.untyped_storage().nbytes() == 1
        packed = layer.weight.quantized(dtype, torch.device("cpu"))
        assert torch.equal(packed, other.weight.data)
        mine, theirs = (each.quant_state.as_dict() for each in (layer, other))
        assert mine.keys() == theirs.keys()
        for key, value in theirs.items():
            same = torch.equal(mine[key], value) if torch.is_tensor(value) else mine[key] == value
            assert same, key


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_weight_is_rounded_as_it_was_in_training(dtype: torch.dtype, tmp_path: Path) -> None:
    write_tiny_model(tmp_path, **WIDE)
    weight = loaded(tmp_path, dtype=dtype).model.layers[0].mlp.up_proj.weight
    whole = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=dtype)
    expected = dequantize_4bit(weight.data, weight.quant_state)
    found = rounded_to_nf4(whole.model.layers[0].mlp.up_proj.weight.data)
    assert torch.equal(found, expected)
    assert not torch.equal(found, whole.model.layers[0].mlp.up_proj.weight)


def test_conv1d_is_quantized_too(tmp_path: Path) -> None:
    torch.manual_seed(0)
    base = GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=1, n_head=2, vocab_size=259)).eval()
    base.save_pretrained(tmp_path)
    model = loaded(tmp_path)
    assert quantized(model) == set(quantized_linears(base, ()))
    weight = model.transformer.h[0].attn.c_attn.weight
    expected = dequantize_4bit(weight.data, weight.quant_state)
    found = rounded_to_nf4(base.transformer.h[0].attn.c_attn.weight.data.T)
    assert torch.equal(found, expected)


def test_gradients_after_an_evaluation_are_those_before_it(tmp_path: Path) -> None:
    write_tiny_model(tmp_path, **WIDE)
    model = loaded(tmp_path, dtype=torch.bfloat16)
    add_lora(model, Lora(rank=4, alpha=8))

    def gradients() -> list[torch.Tensor]:
        model.train().zero_grad()
        model(IDS).logits.float().square().mean().backward()
        return [value.grad.clone() for value in model.parameters() if value.grad is not None]

    before = gradients()
    with torch.no_grad():
        model.eval()(IDS)
    for one, other in zip(gradients(), before, strict=True):
        assert torch.equal(one, other)


def test_a_quantized_weight_takes_little_more_than_four_bits(tmp_path: Path) -> None:
    write_tiny_model(tmp_path, hidden_size=256, intermediate_size=1024)
    weight = loaded(tmp_path).model.layers[0].mlp.up_proj.weight
    state = weight.quant_state
    held = weight.nbytes + state.absmax.nbytes + state.state2.absmax.nbytes
    assert held == pytest.approx(1024 * 256 * BYTES_PER_WEIGHT, rel=1e-3)
