"""Adapters that begin as a part of the base: together they are the base, and so is what is left."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

from finetune_trainer.run import Initialization, Lora
from finetune_trainer.train.methods.initialization import for_the_whole_base, take_out_of_base
from finetune_trainer.train.methods.lora import add_lora
from finetune_trainer.train.parallel import Group, Ranks
from unit.trainer.tiny import tiny_model

IDS = torch.tensor([[5, 80, 17, 95, 3, 60, 41, 8]])
BOTH = [Initialization.PISSA, Initialization.OLORA]


def adapted(
    initialization: Initialization,
    directory: Path,
    *,
    rslora: bool = False,
    targets: tuple[str, ...] = ("all-linear",),
) -> PeftModel:
    lora = Lora(
        rank=4,
        alpha=4 if rslora else 8,
        rslora=rslora,
        initialization=initialization,
        target_modules=list(targets),
    )
    model = add_lora(tiny_model(), lora)
    group = Group(Ranks(), torch.device("cpu"))
    take_out_of_base(model, initialization, directory, group)
    return model.eval()


def logits(model: PeftModel) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS).logits


@pytest.mark.parametrize("initialization", BOTH)
def test_base_and_first_adapter_are_the_base(
    initialization: Initialization, tmp_path: Path
) -> None:
    model = adapted(initialization, tmp_path / "initial")
    torch.testing.assert_close(logits(model), tiny_model().eval()(IDS).logits, rtol=0, atol=1e-4)
    with model.disable_adapter():
        assert (logits(model) - tiny_model().eval()(IDS).logits).abs().max() > 0.1


def test_pissa_takes_out_the_largest_singular_values(tmp_path: Path) -> None:
    model = adapted(Initialization.PISSA, tmp_path / "initial").get_base_model()
    whole = torch.linalg.svdvals(tiny_model().model.layers[0].mlp.up_proj.weight)
    left = model.model.layers[0].mlp.up_proj.base_layer.weight
    # No other part of this rank takes out as much (Eckart and Young).
    torch.testing.assert_close(left.norm(), whole[4:].norm(), rtol=1e-3, atol=0)


@pytest.mark.parametrize("initialization", BOTH)
def test_a_later_attempt_takes_out_the_very_same(
    initialization: Initialization, tmp_path: Path
) -> None:
    first = adapted(initialization, tmp_path / "initial")
    torch.manual_seed(3)
    again = adapted(initialization, tmp_path / "initial")
    for name, value in first.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


@pytest.mark.parametrize("rslora", [False, True], ids=["lora", "rslora"])
@pytest.mark.parametrize("initialization", BOTH)
def test_what_is_published_is_pefts_own_conversion(
    initialization: Initialization, rslora: bool, tmp_path: Path
) -> None:
    model = adapted(initialization, tmp_path / "initial", rslora=rslora)
    model.save_pretrained(tmp_path / "first")
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "lora_" in name:
                value.add_(0.05 * torch.randn_like(value))
    expected = logits(model)
    model.save_pretrained(tmp_path / "ours")
    for_the_whole_base(tmp_path / "ours", tmp_path / "initial")
    model.save_pretrained(
        tmp_path / "pefts", path_initial_model_for_weight_conversion=str(tmp_path / "first")
    )
    pefts = load_file(tmp_path / "pefts" / "adapter_model.safetensors")
    ours = load_file(tmp_path / "ours" / "adapter_model.safetensors")
    assert ours.keys() == pefts.keys()
    for name, value in ours.items():
        assert torch.equal(value, pefts[name]), name
    tuned = PeftModel.from_pretrained(tiny_model(), tmp_path / "ours").eval()
    torch.testing.assert_close(logits(tuned), expected, rtol=0, atol=1e-4)
