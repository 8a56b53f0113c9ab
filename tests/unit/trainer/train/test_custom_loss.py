"""A user's own loss: trained by instead of cross-entropy, wherever it comes from."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import torch

from finetune_trainer.outcome import PreemptedError, UserError
from finetune_trainer.run import CustomLoss
from finetune_trainer.train.custom_loss import TokenLoss
from finetune_trainer.train.custom_loss import load_loss as load_from
from finetune_trainer.train.recipe import train
from finetune_trainer.train.stop import Stop
from unit.trainer.train.made import plan, prepared_workspace
from unit.trainer.train.runs import losses, weights

CODE = """
import torch
from torch.nn.functional import cross_entropy

def plain(logits, targets):
    return cross_entropy(logits, targets, reduction="sum")

def smooth(logits, targets):
    return cross_entropy(logits, targets, reduction="sum", label_smoothing=0.2)

def mean_of_each(logits, targets):
    return cross_entropy(logits, targets, reduction="none")

def detached(logits, targets):
    return plain(logits, targets).detach()

number = 7
"""


def load_loss(settings: CustomLoss) -> TokenLoss:
    return load_from(settings, Path(os.environ["FINETUNE_LOSS_DIRECTORY"]))


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module as a mounted ConfigMap has it; its name."""
    torch.set_num_threads(1)
    name = f"losses_{tmp_path.name.replace('-', '_')}"
    (tmp_path / "mounted").mkdir()
    (tmp_path / "mounted" / f"{name}.py").write_text(CODE)
    monkeypatch.setenv("FINETUNE_LOSS_DIRECTORY", str(tmp_path / "mounted"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    return name


def test_cross_entropy_by_hand_trains_the_same(module: str, tmp_path: Path) -> None:
    own = prepared_workspace(tmp_path / "own")
    train(plan(epochs=2, loss={"module": module, "function": "plain"}), own, Stop())
    stock = prepared_workspace(tmp_path / "stock")
    train(plan(epochs=2), stock, Stop())
    assert losses(own) == pytest.approx(losses(stock), rel=1e-5)
    for name, tensor in weights(stock).items():
        torch.testing.assert_close(weights(own)[name], tensor, rtol=1e-4, atol=1e-5)


def test_what_prepare_has_kept_is_what_is_trained_by(module: str, tmp_path: Path) -> None:
    own = prepared_workspace(tmp_path / "own")
    kept = own.prepare / "loss"
    kept.mkdir(parents=True)
    kept.joinpath(f"{module}.py").write_text(CODE)
    (tmp_path / "mounted" / f"{module}.py").write_text("changed between two attempts")
    train(plan(maxSteps=1, loss={"module": module, "function": "plain"}), own, Stop())


def test_another_loss_is_trained_by_and_evaluations_keep_to_cross_entropy(
    module: str, tmp_path: Path
) -> None:
    own = prepared_workspace(tmp_path / "own")
    _, result = train(plan(epochs=3, loss={"module": module, "function": "smooth"}), own, Stop())
    stock = prepared_workspace(tmp_path / "stock")
    _, expected = train(plan(epochs=3), stock, Stop())
    assert losses(own)[0] != pytest.approx(losses(stock)[0], abs=0.01)
    assert result["baseValidationLoss"] == expected["baseValidationLoss"]
    assert result["validationLoss"] < result["baseValidationLoss"] - 0.1


def test_a_module_of_the_image_will_do_and_cannot_be_replaced(tmp_path: Path) -> None:
    (tmp_path / "mounted" / "json.py").write_text("def dumps(logits, targets): ...")
    function = load_loss(CustomLoss(module="json", function="dumps"))
    with pytest.raises(UserError, match=r"json:dumps failed \(TypeError: dumps\(\) takes 1 pos"):
        function(torch.ones(2, 3), torch.zeros(2, dtype=torch.long))


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        ("number", r":number, which is no function"),
        ("detached", r"no gradient flows from: compute it from the logits"),
    ],
)
def test_what_is_wrong_with_it_is_told(module: str, function: str, sentence: str) -> None:
    with pytest.raises(UserError, match=rf"^spec\.training\.loss .*{sentence}"):
        load_loss(CustomLoss(module=module, function=function))(
            torch.ones(2, 3, requires_grad=True), torch.zeros(2, dtype=torch.long)
        )


def test_without_targets_it_is_not_asked(module: str) -> None:
    function = load_loss(CustomLoss(module=module, function="mean_of_each"))
    logits = torch.ones(0, 3, requires_grad=True)
    function(logits, torch.zeros(0, dtype=torch.long)).backward()
    assert logits.grad is not None


def test_a_stop_while_it_is_imported_is_no_fault_of_its_own(tmp_path: Path) -> None:
    code = "import signal\nsignal.raise_signal(signal.SIGTERM)\nfor _ in range(9): pass\n"
    (tmp_path / "mounted" / "slow_losses.py").write_text(code)
    Stop().install()
    with pytest.raises(PreemptedError):
        load_loss(CustomLoss(module="slow_losses", function="f"))
