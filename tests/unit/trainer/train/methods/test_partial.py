"""Training of chosen parameters: they learn, the others stay as they are to the bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from finetune_trainer.outcome import UserError
from finetune_trainer.prepare.memory import count_parameters, estimate_memory
from finetune_trainer.train import setup
from finetune_trainer.train.methods.partial import freeze_others
from finetune_trainer.train.model import load_base
from finetune_trainer.train.recipe import train
from finetune_trainer.train.stop import Stop
from unit.trainer.tiny import tiny_model
from unit.trainer.train.made import plan, prepared_workspace
from unit.trainer.train.runs import stock_loss

LAST = {"full": {"trainable": ["model.layers.1.mlp", "model.norm"]}}


def trained(*patterns: str, **model: Any) -> list[str]:
    made = tiny_model(**model)
    freeze_others(made, patterns)
    return [name for name, value in made.named_parameters() if value.requires_grad]


def test_a_pattern_names_parameters_by_themselves_or_by_their_module() -> None:
    assert trained("model.norm") == ["model.norm.weight"]
    assert trained("model.layers.[1-9].mlp.up_*") == ["model.layers.1.mlp.up_proj.weight"]
    assert len(trained("model.layers.1")) == len(trained("model.layers.1.*")) == 9
    assert trained("*") == [name for name, _ in tiny_model().named_parameters()]


def test_of_tied_parameters_either_name_will_do() -> None:
    assert trained("lm_head") == trained("model.embed_tokens") == ["model.embed_tokens.weight"]
    assert trained("lm_head", tie_word_embeddings=False) == ["lm_head.weight"]


def test_a_pattern_that_names_nothing_is_answered_with_what_exists() -> None:
    with pytest.raises(
        UserError,
        match=r'^spec\.method\.full\.trainable has "model\.layer\.1", which names nothing in the '
        r"model; it has: model\.embed_tokens\.weight, model\.layers\.\*\.self_attn\.q_proj\.weight",
    ):
        trained("model.norm", "model.layer.1")


@pytest.mark.parametrize("precision", ["Float32", "Bfloat16"])
@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16])
def test_what_is_not_chosen_is_published_as_it_was(
    precision: str, stored: torch.dtype, tmp_path: Path
) -> None:
    workspace = prepared_workspace(tmp_path)
    tiny_model().to(stored).save_pretrained(workspace.model)
    _, result = train(plan(LAST, epochs=3, precision=precision), workspace, Stop())
    before = load_file(workspace.model / "model.safetensors")
    after = load_file(workspace.merged / "model.safetensors")
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert {value.dtype for value in after.values()} == {stored}
    assert changed == {
        *(f"model.layers.1.mlp.{name}_proj.weight" for name in ("up", "gate", "down")),
        "model.norm.weight",
    }
    assert result["validationLoss"] < result["baseValidationLoss"] - 0.05
    assert result["trainableParameters"] == 3 * 32 * 64 + 32
    model = AutoModelForCausalLM.from_pretrained(workspace.merged)
    tolerance = 1e-4 if precision == "Float32" and stored is torch.float32 else 0.05
    assert stock_loss(model, workspace) == pytest.approx(result["validationLoss"], abs=tolerance)


def test_no_gradient_passes_below_the_first_trained_parameter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = prepared_workspace(tmp_path)
    needs: dict[int, set[bool]] = {0: set(), 1: set()}

    def watched(*args: Any, **kwargs: Any) -> Any:
        model = load_base(*args, **kwargs)
        for index, layer in enumerate(model.model.layers):
            layer.register_forward_hook(
                lambda module, _, output, index=index: (
                    needs[index].add(output.requires_grad) if module.training else None
                )
            )
        return model

    monkeypatch.setattr(setup, "load_base", watched)
    train(plan(LAST, maxSteps=2), workspace, Stop())
    assert needs == {0: {False}, 1: {True}}


def test_less_is_kept_in_memory() -> None:
    config = tiny_model().config
    full, part = plan({"full": {}}), plan(LAST)
    sizes = count_parameters(config, part)
    assert sizes.reached == 1
    assert sizes.trainable == 3 * 32 * 64 + 32
    everything = estimate_memory(config, count_parameters(config, full), full)
    some = estimate_memory(config, sizes, part)
    assert some.weights == everything.weights == 4 * sizes.parameters
    assert some.optimizer == 8 * sizes.trainable
    assert some.activations < everything.activations
