"""Sizes and memory, from a configuration alone."""

import pytest
import torch

from finetune_trainer.prepare.memory import count_parameters, estimate_memory
from finetune_trainer.run import Lora, Run
from finetune_trainer.train.model import add_lora
from unit.trainer.prepare.plans import plan
from unit.trainer.tiny import tiny_model


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
    with_gpu = estimate(plan(resources={"gpusPerNode": 1}))
    assert with_gpu == estimate(plan(training={"precision": "Bfloat16"}))
    assert estimate(plan()) == estimate(plan(training={"precision": "Float32"}))


def test_gradient_checkpointing_saves_activations() -> None:
    checkpointed = estimate(plan(training={"gradientCheckpointing": True}))
    assert checkpointed[0] == estimate(plan())[0]
    assert checkpointed[1] < estimate(plan())[1]
