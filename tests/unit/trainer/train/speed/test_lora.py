"""Small updates survive a bfloat16 base, and gradients are those of float32 arithmetic."""

import copy

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn

from finetune_trainer.train.speed.lora import extend, fuse


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
    assert len(fuse(model)) == 1
    assert abs(kept() - 1) < 0.02
    assert abs(lossy - 1) > 3 * abs(kept() - 1)


def test_gradients_are_those_of_float32() -> None:
    model = adapted(torch.bfloat16, size=0.1)
    exact = copy.deepcopy(model).float()
    fuse(model)
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


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("bias", [True, False])
def test_in_float32_outputs_and_gradients_are_those_of_peft(bias: bool, dropout: float) -> None:
    torch.manual_seed(0)
    stock = nn.Sequential(nn.Linear(24, 40, bias=bias), nn.Linear(40, 16, bias=bias))
    config = LoraConfig(
        r=4, lora_alpha=6, lora_dropout=dropout, target_modules=["0", "1"], init_lora_weights=False
    )
    theirs = get_peft_model(stock, config)
    ours = copy.deepcopy(theirs)
    assert len(fuse(ours)) == 2
    x = torch.randn(2, 9, 24)
    gradients = []
    for model in (theirs, ours):
        torch.manual_seed(1)
        given = x.clone().requires_grad_()
        output = model.train()(given)
        output.square().sum().backward()
        trained = [each.grad for each in model.parameters() if each.requires_grad]
        gradients.append([output.detach(), given.grad, *trained])
    for actual, expected in zip(gradients[1], gradients[0], strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


def test_the_extended_matrix_follows_the_optimizer() -> None:
    model = adapted(torch.bfloat16, size=0.1)
    x = torch.randn(32, 64).to(torch.bfloat16)
    together = copy.deepcopy(model)
    extend(fuse(together))
    fuse(model)
    for _ in range(2):
        with torch.no_grad():
            torch.testing.assert_close(together(x), model(x), rtol=0, atol=0)
            for each in (together, model):
                each.base_model.model[0].lora_B.default.weight.mul_(1.5)


def test_an_adapter_that_is_switched_off_leaves_the_base() -> None:
    model = adapted(torch.float32, size=0.1)
    x = torch.randn(4, 64)
    base = model.base_model.model[0].base_layer(x)
    fuse(model)
    with model.disable_adapter():
        torch.testing.assert_close(model(x), base, rtol=0, atol=0)


def test_what_is_not_plain_keeps_the_stock_forward_pass() -> None:
    stock = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8))
    dora = get_peft_model(copy.deepcopy(stock), LoraConfig(target_modules=["0"], use_dora=True))
    biased = get_peft_model(copy.deepcopy(stock), LoraConfig(target_modules=["0"], lora_bias=True))
    assert fuse(dora) == fuse(biased) == []
