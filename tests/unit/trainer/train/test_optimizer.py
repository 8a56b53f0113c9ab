"""Which parameter learns how fast, and which of them decay."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from finetune_trainer.outcome import PreemptedError
from finetune_trainer.prepare.memory import MOMENTS
from finetune_trainer.run import Optimizer
from finetune_trainer.train import recipe
from finetune_trainer.train.optimizer import (
    arrived,
    load_state_tensors,
    make_optimizer,
    set_learning_rate,
    state_tensors,
)
from finetune_trainer.train.recipe import train
from finetune_trainer.train.stop import Stop
from unit.trainer.train.made import StopAfter, plan, prepared_workspace
from unit.trainer.train.runs import losses, weights

NAMES = ("layer.lora_A.default.weight", "layer.lora_B.default.weight", "norm.weight")


def changes(*, lora_plus_ratio: float = 1.0, weight_decay: float = 0.0) -> dict[str, float]:
    """How far each parameter, all ones, moves in a first step, whatever its gradient's size."""
    parameters = {
        name: nn.Parameter(torch.ones(4) if "norm" in name else torch.ones(4, 4)) for name in NAMES
    }
    optimizer = make_optimizer(
        parameters, weight_decay=weight_decay, lora_plus_ratio=lora_plus_ratio
    )
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


EVERY: dict[str, dict[str, Any]] = {
    "AdamW": {"beta1": "0.8", "beta2": "0.95", "epsilon": "1e-6"},
    "Adafactor": {},
    "RMSprop": {"epsilon": "1e-6"},
    "SGD": {"momentum": "0.8"},
}
RATES = {"AdamW": "1e-2", "Adafactor": "1e-2", "RMSprop": "1e-3", "SGD": "1e-1"}


def made(kind: str, parameters: dict[str, nn.Parameter]) -> torch.optim.Optimizer:
    settings = Optimizer.model_validate({"type": kind, **EVERY[kind]})
    return make_optimizer(parameters, settings, weight_decay=0.0)


@pytest.mark.parametrize("kind", EVERY)
def test_a_resumed_run_equals_the_uninterrupted_one_bit_for_bit(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(1)
    run = plan(
        epochs=3,
        learningRate=RATES[kind],
        weightDecay="0.1",
        optimizer={"type": kind, **EVERY[kind]},
    )
    straight = prepared_workspace(tmp_path / "straight")
    _, expected = train(run, straight, Stop())
    assert expected["validationLoss"] < expected["baseValidationLoss"] - 0.02
    stopped = prepared_workspace(tmp_path / "stopped")
    with monkeypatch.context() as patch, pytest.raises(PreemptedError):
        train(run, stopped, StopAfter(4).arm(recipe, patch))
    train(run, stopped, Stop())
    assert losses(stopped) == losses(straight)
    resumed = weights(stopped)
    for name, tensor in weights(straight).items():
        assert torch.equal(resumed[name], tensor), name


@pytest.mark.parametrize("kind", EVERY)
def test_what_no_gradient_reaches_is_named_also_after_a_resume(kind: str) -> None:
    parameters = {name: nn.Parameter(torch.ones(3, 4)) for name in ("reached", "zero", "none")}
    optimizer = made(kind, parameters)
    set_learning_rate(optimizer, 1e-3)
    parameters["reached"].grad = torch.full((3, 4), 1e-6)
    parameters["zero"].grad = torch.zeros(3, 4)
    optimizer.step()
    again = made(kind, parameters)
    load_state_tensors(again, parameters, state_tensors(optimizer, parameters))
    for each in (optimizer, again):
        moments = {name: arrived(each.state[value]) for name, value in parameters.items()}
        assert moments["none"] is None
        assert {
            name for name, moment in moments.items() if moment is not None and moment.any()
        } == {"reached"}


@pytest.mark.parametrize("kind", EVERY)
def test_its_state_is_as_large_as_prepare_counts(kind: str) -> None:
    parameters = {"weight": nn.Parameter(torch.ones(256, 256))}
    optimizer = made(kind, parameters)
    set_learning_rate(optimizer, 1e-3)
    parameters["weight"].grad = torch.ones(256, 256)
    optimizer.step()
    held = sum(value.numel() for value in state_tensors(optimizer, parameters).values())
    assert held / 256**2 == pytest.approx(MOMENTS[kind], abs=0.01)


def test_the_settings_are_those_of_the_plan() -> None:
    parameters = {"weight": nn.Parameter(torch.ones(3, 4))}
    (adamw,) = made("AdamW", parameters).param_groups
    assert (adamw["betas"], adamw["eps"], adamw["fused"]) == ((0.8, 0.95), 1e-6, True)
    assert made("RMSprop", parameters).param_groups[0]["eps"] == 1e-6
    assert made("SGD", parameters).param_groups[0]["momentum"] == 0.8


@pytest.mark.parametrize("kind", EVERY)
def test_a_state_that_was_loaded_lets_go_of_its_file(kind: str, tmp_path: Path) -> None:
    """Else the checkpoint could not be removed from NFS while the run goes on."""
    parameters = {"weight": nn.Parameter(torch.ones(64, 64))}
    optimizer = made(kind, parameters)
    set_learning_rate(optimizer, 1e-3)
    parameters["weight"].grad = torch.ones(64, 64)
    optimizer.step()
    file = tmp_path / "optimizer.safetensors"
    save_file(state_tensors(optimizer, parameters), file)
    again = made(kind, parameters)
    load_state_tensors(again, parameters, load_file(file))
    assert str(file) not in Path("/proc/self/maps").read_text()
