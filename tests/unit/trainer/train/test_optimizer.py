"""Which parameter learns how fast, and which of them decay."""

import pytest
import torch
from torch import nn

from finetune_trainer.train.optimizer import adamw, set_learning_rate

NAMES = ("layer.lora_A.default.weight", "layer.lora_B.default.weight", "norm.weight")


def changes(*, lora_plus_ratio: float = 1.0, weight_decay: float = 0.0) -> dict[str, float]:
    """How far each parameter, all ones, moves in a first step, whatever its gradient's size."""
    parameters = {
        name: nn.Parameter(torch.ones(4) if "norm" in name else torch.ones(4, 4)) for name in NAMES
    }
    optimizer = adamw(parameters, weight_decay=weight_decay, lora_plus_ratio=lora_plus_ratio)
    set_learning_rate(optimizer, 1e-3)
    for parameter in parameters.values():
        parameter.grad = torch.full_like(parameter, 3.0)
    optimizer.step()
    return {name: 1.0 - float(value.detach().mean()) for name, value in parameters.items()}


def test_all_parameters_learn_at_the_plans_rate() -> None:
    assert changes() == pytest.approx(dict.fromkeys(NAMES, 1e-3), rel=1e-3)


def test_with_lora_plus_b_learns_faster_and_nothing_else() -> None:
    expected = dict.fromkeys(NAMES, 1e-3) | {"layer.lora_B.default.weight": 16e-3}
    assert changes(lora_plus_ratio=16.0) == pytest.approx(expected, rel=1e-3)


def test_vectors_do_not_decay() -> None:
    without, decayed = changes(), changes(weight_decay=0.5)
    assert {name for name in NAMES if decayed[name] > without[name] + 1e-4} == set(NAMES[:2])
