"""Where IA3's factors are put, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from transformers import AutoModelForCausalLM, Olmo2Config

from finetune_trainer.outcome import UserError
from finetune_trainer.run import Ia3
from finetune_trainer.train.methods.ia3 import add_ia3
from unit.trainer.tiny import SMALL, tiny_model


def test_without_names_keys_values_and_what_the_feed_forward_block_reads_are_scaled() -> None:
    model = tiny_model()
    add_ia3(model, Ia3())
    layer = model.model.layers[0]
    assert layer.self_attn.k_proj.ia3_l["default"].shape == (16, 1)
    assert layer.self_attn.v_proj.ia3_l["default"].shape == (16, 1)
    assert layer.mlp.down_proj.ia3_l["default"].shape == (1, 64)
    assert not hasattr(layer.mlp.up_proj, "ia3_l")


def test_an_architecture_without_usual_names_needs_some() -> None:
    model = AutoModelForCausalLM.from_config(Olmo2Config(**SMALL))
    with pytest.raises(
        UserError, match=r"spec\.method\.ia3\.targetModules has to be set, .* olmo2; .*down_proj"
    ):
        add_ia3(model, Ia3())


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"targetModules": ["key"]},
            r'spec\.method\.ia3\.targetModules names "key", which the model does not have; its',
        ),
        (
            {"targetModules": ["mlp"]},
            r"spec\.method\.ia3\.targetModules names what IA3 cannot scale \(mlp is LlamaMLP\)",
        ),
        (
            {"targetModules": ["k_proj"], "feedforwardModules": ["down_proj"]},
            r"spec\.method\.ia3\.feedforwardModules names down_proj, which "
            r"spec\.method\.ia3\.targetModules does not: add it there",
        ),
    ],
)
def test_what_cannot_be_scaled_is_told(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        add_ia3(tiny_model(), Ia3.model_validate(settings))
