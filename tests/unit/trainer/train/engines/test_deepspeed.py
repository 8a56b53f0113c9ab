"""ZeRO that is not in force is found out at the start."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from finetune_trainer.outcome import DefectError
from finetune_trainer.train.engines.deepspeed import require_stage

PARAMETERS = {"weight": nn.Parameter(torch.ones(10, 10))}


def engine(stage: int, held: int = 50) -> Any:
    """What DeepSpeed would say of itself if it did something else than it was told."""
    optimizer = SimpleNamespace(single_partition_of_fp32_groups=[torch.ones(held)])
    return SimpleNamespace(zero_optimization_stage=lambda: stage, optimizer=optimizer)


@pytest.mark.parametrize(
    ("found", "asked", "ranks", "sentence"),
    [
        (engine(0), 2, 2, "stage is 2, but DeepSpeed runs stage 0"),
        (engine(1, held=100), 1, 2, "stage 1 is not in force: the optimizer of one of 2 processes"),
        (engine(2, held=100), 2, 2, "stage 2 is not in force: the optimizer of one of 2 processes"),
        (engine(3), 3, 2, "stage 3 is not in force: weight is not partitioned"),
    ],
)
def test_another_stage_is_a_defect(found: Any, asked: int, ranks: int, sentence: str) -> None:
    with pytest.raises(DefectError, match=sentence):
        require_stage(found, asked, PARAMETERS, ranks=ranks)


@pytest.mark.parametrize(("found", "ranks"), [(engine(1), 2), (engine(1, held=100), 1)])
def test_a_part_of_the_weights_is_all_of_them_for_one_rank_only(found: Any, ranks: int) -> None:
    require_stage(found, 1, PARAMETERS, ranks=ranks)
