"""What a step needs by the formula, and what devices can do by their names."""

from __future__ import annotations

import numpy as np
import pytest

from finetune_trainer.work import Work, peak_of


def test_the_count_of_one_document_is_that_of_the_formula() -> None:
    work = Work(body=1000, head=100, trained=10, attention=8)
    # 4 · 1000 · 5 + 4 · 100 · 2 + 2 · 10 · 5 + 6 · 8 · 5²
    assert work.flops(np.array([5]), supervised=2) == 20_000 + 800 + 100 + 1200


def test_attention_costs_each_document_by_itself() -> None:
    work = Work(body=0, head=0, trained=0, attention=1)
    assert work.flops(np.array([3, 4]), supervised=0) == 6 * (9 + 16)


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
