"""Small updates survive a bfloat16 base, and gradients are those of float32 arithmetic."""

import copy

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn

from finetune_trainer.train.speed.rounding import round_once


def adapted(dtype: torch.dtype, size: float) -> PeftModel:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 256).to(dtype))
    peft = get_peft_model(model, LoraConfig(r=4, lora_alpha=4, target_modules=["0"]))
    with torch.no_grad():
        nn.init.normal_(peft.base_model.model[0].lora_B.default.weight, std=size)
    return peft


def test_updates_below_the_last_place_of_the_output_are_not_lost() -> None:
    model = adapted(torch.bfloat16, size=1e-3)
    x = torch.randn(512, 64).to(torch.bfloat16)
    layer = model.base_model.model[0]
    with torch.no_grad():
        true = (x.float() @ layer.lora_A.default.weight.T) @ layer.lora_B.default.weight.T

    def kept() -> float:
        """How much of the adapter's true product arrives in the output: 1 is all of it."""
        with torch.no_grad():
            arrived = model(x).float() - layer.base_layer(x).float()
        return float((arrived * true).sum() / (true * true).sum())

    lossy = kept()
    assert round_once(model) == 1
    assert abs(kept() - 1) < 0.02
    assert abs(lossy - 1) > 3 * abs(kept() - 1)


def test_gradients_are_those_of_float32() -> None:
    model = adapted(torch.bfloat16, size=0.1)
    exact = copy.deepcopy(model).float()
    round_once(model)
    x = torch.randn(32, 64).to(torch.bfloat16)
    ours, theirs = x.clone().requires_grad_(), x.float().requires_grad_()
    model(ours).square().sum().backward()
    exact(theirs).square().sum().backward()
    torch.testing.assert_close(ours.grad.float(), theirs.grad, rtol=0.02, atol=0.1)
    for (name, one), (_, other) in zip(
        model.named_parameters(), exact.named_parameters(), strict=True
    ):
        if one.requires_grad:
            assert one.grad.dtype is torch.float32, name
            error = (one.grad - other.grad).norm() / other.grad.norm()
            assert error < 5e-3, (name, float(error))


def test_a_float32_base_keeps_the_stock_forward_pass() -> None:
    assert round_once(adapted(torch.float32, size=0.1)) == 0
