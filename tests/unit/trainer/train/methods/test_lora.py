"""What LoRA refuses, and what it leaves exactly as the base is."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from finetune_trainer.run import Lora
from finetune_trainer.train.methods.lora import add_lora
from unit.trainer.tiny import tiny_model

IDS = torch.tensor([[5, 80, 17, 95, 3, 60, 41, 8]])


def lora(**settings: Any) -> Lora:
    return Lora.model_validate({"rank": 4, "alpha": 8, **settings})


def test_what_is_trained_whole_has_no_adapters_inside() -> None:
    model = tiny_model()
    add_lora(model, lora(modulesToSave=["mlp"]))
    trained = [name for name, value in model.named_parameters() if value.requires_grad]
    assert "model.layers.0.mlp.modules_to_save.default.up_proj.weight" in trained
    assert not any("mlp" in name and "lora_" in name for name in trained)


@pytest.mark.parametrize(
    "settings",
    [{}, {"dora": True}, {"initialization": "Orthogonal"}, {"modulesToSave": ["model.norm"]}],
    ids=["lora", "dora", "orthogonal", "modules to save"],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_new_adapter_leaves_what_the_model_computes(
    settings: dict[str, Any], dtype: torch.dtype
) -> None:
    model = tiny_model().to(dtype).eval()
    with torch.no_grad():
        before = model(IDS).logits.float()
        add_lora(model, lora(**settings))
        after = model(IDS).logits.float()
    # DoRA divides by its norms and multiplies by them again.
    tolerance = 1e-5 if dtype is torch.float32 else 2e-2
    torch.testing.assert_close(after, before, rtol=0, atol=tolerance * float(before.abs().max()))


def test_the_norms_of_dora_begin_as_the_bases_not_rounded_to_its_format() -> None:
    model = tiny_model().to(torch.bfloat16)
    weight = model.model.layers[0].mlp.up_proj.weight.detach().float()
    add_lora(model, lora(dora=True))
    norms = model.model.layers[0].mlp.up_proj.lora_magnitude_vector["default"].weight
    torch.testing.assert_close(norms, torch.linalg.norm(weight, dim=1), rtol=1e-6, atol=0)


def test_what_is_trained_is_float32_over_a_bfloat16_base() -> None:
    model = tiny_model().to(torch.bfloat16)
    saved = ["lm_head", "embed_tokens", "input_layernorm"]
    add_lora(model, lora(dora=True, modulesToSave=saved))
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    assert {value.dtype for value in trained.values()} == {torch.float32}
    assert all(any(f"{name}.modules_to_save" in key for key in trained) for name in saved)
    model(IDS).logits.sum().backward()
    assert all(value.grad is not None for name, value in trained.items() if "lora_B" in name)
