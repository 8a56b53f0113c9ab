"""Sizes and memory, from a configuration alone."""

from typing import Any

import numpy as np
import pytest
import torch

from finetune_trainer.data.examples import Example
from finetune_trainer.prepare.memory import count_parameters, estimate_memory
from finetune_trainer.run import Lora, Precision, Run
from finetune_trainer.train.batches import collate
from finetune_trainer.train.methods.adapter import add_adapter
from finetune_trainer.train.methods.lora import add_lora
from finetune_trainer.train.probe import probe
from finetune_trainer.train.speed.lora import use_fused_lora
from finetune_trainer.train.speed.loss import SummedLoss
from unit.trainer.prepare.plans import plan
from unit.trainer.tiny import tiny_model
from unit.trainer.train.methods.made import BOTTLENECK, IA3, VIRTUAL_TOKENS

WIDER = {"hidden_size": 64, "intermediate_size": 176, "num_hidden_layers": 4}


def estimate(run: Run) -> tuple[int, int]:
    """Weights, gradients and optimizer together; and activations, in bytes."""
    config = tiny_model().config
    memory = estimate_memory(config, count_parameters(config, run), run)
    return memory.weights + memory.gradients + memory.optimizer, memory.activations


@pytest.mark.parametrize("modules", [["all-linear"], ["q_proj", "v_proj"]])
@pytest.mark.parametrize("tied", [True, False])
def test_parameters_are_counted_as_on_the_real_model(modules: list[str], tied: bool) -> None:
    model = tiny_model(tie_word_embeddings=tied)
    run = plan(method={"lora": {"rank": 4, "targetModules": modules}})
    sizes = count_parameters(model.config, run)
    assert sizes.parameters == sum(weight.numel() for weight in model.parameters())
    adapted = add_lora(model, Lora(rank=4, target_modules=modules))
    trained = [weight.numel() for weight in adapted.parameters() if weight.requires_grad]
    assert sizes.trainable == sum(trained)


@pytest.mark.parametrize("method", [*BOTTLENECK.values(), *IA3.values(), *VIRTUAL_TOKENS.values()])
def test_what_other_methods_train_is_counted_as_on_the_real_model(method: dict[str, Any]) -> None:
    model = tiny_model()
    run = plan(method={"lora": None, **method})
    sizes = count_parameters(model.config, run)
    assert sizes.parameters == sum(weight.numel() for weight in model.parameters())
    adapted = add_adapter(model, run.method, None)
    assert adapted is not None
    assert sizes.trainable == adapted.get_nb_trainable_parameters()[0]


def test_counting_leaves_no_default_device_behind() -> None:
    count_parameters(tiny_model().config, plan())
    assert torch.empty(1).device.type == "cpu"


def test_full_training_keeps_sixteen_bytes_a_parameter() -> None:
    run = plan(method={"full": {}, "lora": None})
    parameters = sum(weight.numel() for weight in tiny_model().parameters())
    assert estimate(run)[0] == 16 * parameters


def test_a_frozen_base_costs_its_compute_format_only() -> None:
    full = sum(weight.numel() for weight in tiny_model().parameters())
    trained = count_parameters(tiny_model().config, plan()).trainable
    assert estimate(plan(training={"precision": "Bfloat16"}))[0] == 2 * full + 16 * trained
    assert estimate(plan(training={"precision": "Float32"}))[0] == 4 * full + 16 * trained


def test_auto_counts_as_bfloat16_where_there_is_an_accelerator() -> None:
    gpu = {"gpusPerNode": 1}
    in_bfloat16 = estimate(plan(resources=gpu, training={"precision": "Bfloat16"}))
    assert estimate(plan(resources=gpu)) == in_bfloat16
    assert estimate(plan()) == estimate(plan(training={"precision": "Float32"}))


def saved_for_backward(run: Run, tokens: int) -> int:
    """Bytes that the forward pass of `train` keeps for the backward pass, weights aside."""
    full = run.method.full is not None
    low = run.training.precision is Precision.BFLOAT16
    model = tiny_model(**WIDER)
    if low and not full:
        model = model.to(torch.bfloat16)
    abilities = probe(model.eval(), tokens)
    add_adapter(model, run.method, None)
    if run.method.lora:
        use_fused_lora(model)
    loss = SummedLoss(
        model.train(),
        separable_head=abilities.separable_head,
        autocast=torch.bfloat16 if low and full else None,
    )
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage
        return tensor

    example = Example(np.arange(tokens, dtype=np.int32) % 90 + 4, np.ones(tokens, dtype=np.bool_))
    batch = collate([example], padded=not abilities.shared_rows, device=torch.device("cpu"))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss(batch)
    return sum(storage.nbytes() for storage in kept.values())


@pytest.mark.parametrize("precision", ["Float32", "Bfloat16"])
@pytest.mark.parametrize(
    "method",
    [
        {"lora": {"rank": 4}},
        {"lora": {"rank": 4, "dropout": "0.1"}},
        {"lora": {"rank": 4, "targetModules": ["q_proj", "v_proj"]}},
        {"lora": {"rank": 4, "dora": True}},
        {"lora": None, "full": {}},
        # Behind feed-forward blocks alone the lowest layer keeps nothing: one of four here.
        {"lora": None, "adapter": {"targetModules": ["self_attn", "mlp"]}},
    ],
    ids=["lora", "dropout", "two-modules", "dora", "full", "bottleneck"],
)
def test_activations_are_estimated_as_they_are_kept(method: dict[str, Any], precision: str) -> None:
    tokens = 512
    run = plan(method=method, training={"precision": precision, "sequenceLength": tokens})
    config = tiny_model(**WIDER).config
    sizes = count_parameters(config, run)
    estimated = estimate_memory(config, sizes, run).activations
    if run.method.full and precision == "Bfloat16":
        # Autocast's copy of the weights, which the estimate counts as weights.
        estimated += sizes.parameters * 2
    assert estimated == pytest.approx(saved_for_backward(run, tokens), rel=0.25)


def test_full_training_in_bfloat16_holds_a_copy_of_the_weights() -> None:
    parameters = sum(weight.numel() for weight in tiny_model().parameters())
    run = plan(method={"full": {}, "lora": None}, training={"precision": "Bfloat16"})
    assert estimate(run)[0] == 18 * parameters


def test_gradient_checkpointing_saves_activations() -> None:
    checkpointed = estimate(plan(training={"gradientCheckpointing": True}))
    assert checkpointed[0] == estimate(plan())[0]
    assert checkpointed[1] < estimate(plan())[1]
