"""What a bottleneck adapter computes, where it is put, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BertConfig,
    GPT2Config,
    MixtralConfig,
    OPTConfig,
    PreTrainedModel,
)

from finetune_trainer.outcome import UserError
from finetune_trainer.run import BottleneckAdapter, Task
from finetune_trainer.train.flops import work_of
from finetune_trainer.train.methods.bottleneck import add_bottleneck
from finetune_trainer.train.methods.bottleneck_tuner import BottleneckLayer
from finetune_trainer.train.methods.quantization import nf4
from finetune_trainer.train.model import load_base
from finetune_trainer.train.probe import probe
from unit.trainer.tiny import SMALL, tiny_model, write_tiny_model

IDS = torch.tensor([[5, 80, 17, 95, 3, 60, 41, 8]])
HIDDEN = 32


def settings(**changes: Any) -> BottleneckAdapter:
    return BottleneckAdapter.model_validate({"reductionFactor": 4, **changes})


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS).logits


def trained(model: PreTrainedModel, adapter: BottleneckAdapter) -> PeftModel:
    """As if trained."""
    adapted = add_bottleneck(model, adapter).eval()
    torch.manual_seed(1)
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.1)
    return adapted


def adapted_modules(model: PeftModel) -> list[str]:
    base = model.get_base_model()
    return [name for name, part in base.named_modules() if isinstance(part, BottleneckLayer)]


@pytest.mark.parametrize("blocks", [["mlp"], ["self_attn", "mlp"]])
def test_the_model_begins_as_the_base(blocks: list[str]) -> None:
    expected = logits(tiny_model().eval())
    adapted = add_bottleneck(tiny_model().eval(), settings(targetModules=blocks))
    assert torch.equal(logits(adapted), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("name", "non_linearity"),
    [("ReLU", torch.relu), ("SiLU", nn.SiLU()), ("GELU", nn.GELU()), ("Tanh", torch.tanh)],
)
def test_what_the_block_wrote_goes_through_a_bottleneck_beside_itself(
    name: str, non_linearity: Any, dtype: torch.dtype
) -> None:
    model = trained(tiny_model().to(dtype), settings(nonLinearity=name))
    layer = model.get_base_model().model.layers[0].mlp
    down, up = layer.bottleneck_down["default"], layer.bottleneck_up["default"]
    assert {down.weight.dtype, up.bias.dtype} == {torch.float32}
    x = torch.randn(3, 5, HIDDEN, dtype=dtype)
    block = layer.base_layer(x)
    expected = block.float() + up(non_linearity(down(block.float())))
    assert layer(x).dtype is dtype
    tolerance = 1e-6 if dtype is torch.float32 else 2e-2
    torch.testing.assert_close(layer(x).float(), expected, rtol=tolerance, atol=tolerance)


def test_without_names_an_adapter_is_behind_every_feed_forward_block_alone() -> None:
    adapted = add_bottleneck(tiny_model(), settings())
    assert adapted_modules(adapted) == ["model.layers.0.mlp", "model.layers.1.mlp"]


def test_by_name_it_is_behind_attention_too() -> None:
    adapted = trained(tiny_model(), settings(targetModules=["self_attn", "mlp"]))
    assert len(adapted_modules(adapted)) == 4
    # Attention returns its weights, too.
    assert not torch.equal(logits(adapted), logits(tiny_model()))


@pytest.mark.parametrize(
    ("config", "names"),
    [
        (GPT2Config(vocab_size=128, n_embd=HIDDEN, n_layer=2, n_head=4), "transformer.h.{}.mlp"),
        (
            OPTConfig(
                vocab_size=128,
                hidden_size=HIDDEN,
                ffn_dim=64,
                num_hidden_layers=2,
                num_attention_heads=4,
                word_embed_proj_dim=HIDDEN,
            ),
            "model.decoder.layers.{}.fc2",
        ),
        (
            MixtralConfig(**SMALL, num_local_experts=2, num_experts_per_tok=1),
            "model.layers.{}.mlp",
        ),
    ],
    ids=["conv1d", "no block of its own", "experts"],
)
def test_other_architectures_have_it_where_their_feed_forward_ends(config: Any, names: str) -> None:
    model = AutoModelForCausalLM.from_config(config).eval()
    expected = logits(model)
    adapted = add_bottleneck(model, settings())
    assert adapted_modules(adapted) == [names.format(layer) for layer in range(2)]
    assert torch.equal(logits(adapted), expected)


def test_an_encoder_has_it_in_front_of_what_adds_and_normalizes() -> None:
    config = BertConfig(
        vocab_size=128,
        hidden_size=HIDDEN,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
    )
    model = AutoModelForSequenceClassification.from_config(config).eval()
    expected = logits(model)
    adapted = add_bottleneck(model, settings(), Task.CLASSIFICATION)
    assert adapted_modules(adapted) == [f"bert.encoder.layer.{n}.output.dense" for n in range(2)]
    assert torch.equal(logits(adapted), expected)


@pytest.mark.parametrize("factor", [1, 3, 16, HIDDEN])
def test_a_block_has_two_matrices_and_their_biases_to_train(factor: int) -> None:
    adapted = add_bottleneck(tiny_model(), settings(reductionFactor=factor))
    size = HIDDEN // factor
    assert adapted.get_nb_trainable_parameters()[0] == 2 * (2 * HIDDEN * size + size + HIDDEN)


def test_only_adapters_and_what_is_saved_whole_are_trained() -> None:
    adapted = add_bottleneck(tiny_model(), settings(modulesToSave=["model.norm"]))
    names = {name for name, value in adapted.named_parameters() if value.requires_grad}
    assert all("bottleneck_" in name or "modules_to_save" in name for name in names)
    assert len(names) == 2 * 4 + 1


def test_no_gradient_is_computed_below_the_first_block() -> None:
    adapted = trained(tiny_model(), settings())
    seen: list[torch.Tensor] = []
    attention = adapted.get_base_model().model.layers[0].self_attn
    attention.register_forward_hook(lambda *given: seen.append(given[2][0]))
    adapted(input_ids=IDS).logits.sum().backward()
    assert [each.requires_grad for each in seen] == [False]


def test_switched_off_or_taken_out_it_is_the_base() -> None:
    adapted = trained(tiny_model(), settings())
    expected = logits(tiny_model())
    assert not torch.equal(logits(adapted), expected)
    with adapted.disable_adapter():
        assert torch.equal(logits(adapted), expected)
    assert torch.equal(logits(adapted.unload()), expected)


def test_it_refuses_to_be_merged() -> None:
    with pytest.raises(ValueError, match="not linear and cannot be merged"):
        trained(tiny_model(), settings()).merge_and_unload()


def test_a_second_adapter_can_be_loaded_beside_it_and_chosen(tmp_path: Path) -> None:
    first = trained(tiny_model(), settings(nonLinearity="Tanh"))
    expected = logits(first)
    first.save_pretrained(tmp_path)
    second = trained(tiny_model(), settings(reductionFactor=8))
    other = logits(second)
    second.load_adapter(tmp_path, "first")
    assert torch.equal(logits(second), other)
    second.set_adapter("first")
    assert torch.equal(logits(second), expected)


def test_a_four_bit_base_is_adapted_and_stays_as_it_is(tmp_path: Path) -> None:
    write_tiny_model(tmp_path, hidden_size=64, intermediate_size=192)
    quantization = nf4(tmp_path, [], torch.float32)
    model = load_base(
        tmp_path,
        dtype=torch.float32,
        device=torch.device("cpu"),
        quantization=quantization,
    )
    before = logits(model)
    weight = model.model.layers[0].mlp.up_proj.weight.clone()
    adapted = add_bottleneck(model, settings())
    assert torch.equal(logits(adapted), before)
    optimizer = torch.optim.SGD([p for p in adapted.parameters() if p.requires_grad], lr=0.1)
    losses = []
    for _ in range(5):
        loss = adapted(input_ids=IDS, labels=IDS).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    assert torch.equal(adapted.get_base_model().model.layers[0].mlp.up_proj.weight, weight)


def test_documents_share_a_row_and_a_beginning_as_without_it() -> None:
    abilities = probe(trained(tiny_model(), settings()).get_base_model(), 32)
    assert abilities.shared_rows
    assert abilities.shared_prefixes
    assert abilities.separable_head


def test_its_operations_are_counted() -> None:
    base = work_of(tiny_model())
    adapted = add_bottleneck(tiny_model(), settings())
    work = work_of(adapted.get_base_model())
    assert base is not None
    assert work is not None
    matrices = 2 * 2 * HIDDEN * (HIDDEN // 4)
    assert (work.body - base.body, work.trained) == (matrices, matrices)


def test_a_head_for_labels_is_trained_with_it(tmp_path: Path) -> None:
    write_tiny_model(tmp_path, id2label={0: "bad", 1: "good"}, label2id={"bad": 0, "good": 1})
    task = Task.CLASSIFICATION
    model = load_base(tmp_path, dtype=torch.float32, device=torch.device("cpu"), task=task)
    adapted = add_bottleneck(model, settings(), task)
    assert adapted.peft_config["default"].task_type == "SEQ_CLS"
    names = [name for name, value in adapted.named_parameters() if value.requires_grad]
    assert any("score.modules_to_save" in name for name in names)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"targetModules": ["ffn"]},
            r'spec\.method\.adapter\.targetModules names "ffn", which is no block of a layer; what '
            r"a layer of the model has is: self_attn, mlp\.",
        ),
        ({"targetModules": ["q_proj"]}, r'names "q_proj", which is no block of a layer'),
        ({"targetModules": ["mlp.up_proj"]}, r'names "mlp.up_proj", which is no block of a layer'),
        ({"targetModules": ["mlp", "input_layernorm"]}, 'names "input_layernorm", which is no'),
        (
            {"modulesToSave": ["head"]},
            r'spec\.method\.adapter\.modulesToSave names "head", which the model does not have',
        ),
        *(
            (
                {"modulesToSave": [name]},
                rf'modulesToSave names "{name}", and model\.layers\.0.* gets an adapter, are one '
                r"or in one another: leave one of them out of modulesToSave or "
                r"spec\.method\.adapter\.targetModules",
            )
            for name in ("down_proj", "mlp", "layers.0")
        ),
        (
            {"reductionFactor": 33},
            r"spec\.method\.adapter\.reductionFactor is 33, which leaves nothing of the model's "
            r"hidden size, 32: set it to 32 or less",
        ),
    ],
)
def test_what_cannot_be_adapted_is_told(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        add_bottleneck(tiny_model(), settings(**changes))


def test_a_model_without_a_known_feed_forward_block_needs_names() -> None:
    model = tiny_model()
    for layer in model.model.layers:
        layer.feed = layer.mlp
        del layer.mlp
    with pytest.raises(
        UserError, match=r"targetModules has to be set, because .* has is: self_attn, feed\."
    ):
        add_bottleneck(model, settings())
