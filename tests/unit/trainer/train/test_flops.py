"""What a step needs, counted by hand and by torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from finetune_trainer.train.flops import Work, peak_flops, peak_of, work_of
from unit.trainer.tiny import tiny_model


def test_the_count_of_one_document_is_that_of_the_formula() -> None:
    work = Work(body=1000, head=100, trained=10, attention=8)
    # 4 · 1000 · 5 + 4 · 100 · 2 + 2 · 10 · 5 + 6 · 8 · 5²
    assert work.flops(np.array([5]), supervised=2) == 20_000 + 800 + 100 + 1200


def test_attention_costs_each_document_by_itself() -> None:
    work = Work(body=0, head=0, trained=0, attention=1)
    assert work.flops(np.array([3, 4]), supervised=0) == 6 * (9 + 16)


def test_full_training_needs_what_torch_counts_of_it() -> None:
    model = tiny_model(attn_implementation="sdpa")
    length = 64
    tokens = torch.randint(4, 90, (1, length))
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION), FlopCounterMode(display=False) as counter:
        model(input_ids=tokens, labels=tokens).loss.backward()
    work = work_of(model)
    assert work is not None
    # torch counts attention in full, not the causal half; the embedding's input has no gradient.
    attention = 6 * work.attention * length**2
    expected = work.flops(np.array([length]), supervised=length) + attention
    assert counter.get_total_flops() == pytest.approx(expected, rel=0.06)


def test_frozen_weights_have_no_gradient_of_their_own() -> None:
    model = tiny_model()
    full = work_of(model)
    get_peft_model(model, LoraConfig(target_modules="all-linear", r=4))
    lora = work_of(model)
    assert full is not None
    assert lora is not None
    assert full.trained == full.body + full.head
    assert 0 < lora.trained == lora.body - full.body < full.body / 2
    assert (lora.head, lora.attention) == (full.head, full.attention)


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", 989.4e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA H200", 989.4e12),
        ("NVIDIA A100-SXM4-40GB", 312e12),
        ("NVIDIA L4", 121e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA A10", 125e12),
        ("NVIDIA A10G", None),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", None),
        ("Tesla T4", None),
    ],
)
def test_a_device_has_the_peak_of_its_whole_name(name: str, peak: float | None) -> None:
    assert peak_of(name) == peak


def test_a_cpus_peak_is_not_known() -> None:
    assert peak_flops(torch.device("cpu"), "bfloat16") is None
