"""A stream in float32 brings bfloat16 nearer to float32, and only what it reads is rounded."""

import numpy as np
import pytest
import torch
from transformers import LlamaForCausalLM

from finetune_trainer.data.examples import Example
from finetune_trainer.train.batches import collate
from finetune_trainer.train.probe import probe
from finetune_trainer.train.speed.head import model_inputs
from finetune_trainer.train.speed.techniques import SWITCH
from unit.trainer.tiny import tiny_model

CPU = torch.device("cpu")


def documents() -> list[Example]:
    random = np.random.default_rng(0)
    tokens = random.integers(4, 99, size=(8, 60)).astype(np.int32)
    return [Example(row, np.ones(len(row), dtype=np.bool_)) for row in tokens]


def logits(model: LlamaForCausalLM) -> torch.Tensor:
    probe(model.eval(), 64)
    with torch.no_grad():
        batch = collate(documents(), padded=False, device=CPU)
        return model(**model_inputs(batch)).logits.float()


def deep_model() -> LlamaForCausalLM:
    return tiny_model(num_hidden_layers=12).to(torch.bfloat16)


def test_logits_are_nearer_to_those_of_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = logits(deep_model().float())
    with_stream = (logits(deep_model()) - exact).norm()
    monkeypatch.setenv(SWITCH, "residual")
    without = (logits(deep_model()) - exact).norm()
    assert with_stream < 0.9 * without


def test_layers_hand_on_float32_and_multiply_in_bfloat16() -> None:
    model = deep_model().eval()
    handed_on: set[torch.dtype] = set()
    multiplied: set[torch.dtype] = set()
    for layer in model.model.layers:
        layer.register_forward_hook(lambda _, __, output: handed_on.add(output.dtype))
        layer.mlp.register_forward_pre_hook(lambda _, inputs: multiplied.add(inputs[0].dtype))
    assert probe(model, 64).float32_stream
    handed_on.clear()
    multiplied.clear()
    with torch.no_grad():
        model(**model_inputs(collate(documents(), padded=False, device=CPU)))
    assert handed_on == {torch.float32}
    assert multiplied == {torch.bfloat16}
