"""What a step of a model needs, counted by torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from finetune_trainer.train.flops import peak_flops, work_of
from unit.trainer.tiny import tiny_model


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


def test_a_cpus_peak_is_not_known() -> None:
    assert peak_flops(torch.device("cpu"), "bfloat16") is None
