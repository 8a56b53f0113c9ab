from typing import Any

import pytest
import torch
from torch import nn
from transformers import get_scheduler

from finetune_trainer.run import Scheduler
from finetune_trainer.train.schedule import learning_rate


def rates(kind: str, warmup_ratio: str, total: int) -> list[float]:
    scheduler = Scheduler.model_validate({"type": kind, "warmupRatio": warmup_ratio})
    return [
        learning_rate(scheduler, peak=1.0, step=step, total_steps=total) for step in range(total)
    ]


def test_warm_up_rises_evenly_from_the_first_step_and_reaches_the_peak() -> None:
    assert rates("Constant", "0.3", 10)[:4] == pytest.approx([1 / 3, 2 / 3, 1.0, 1.0])


def test_constant_stays_at_the_peak() -> None:
    assert rates("Constant", "0", 4) == [1.0] * 4


def test_linear_falls_by_equal_parts_and_the_last_step_still_learns() -> None:
    assert rates("Linear", "0", 4) == pytest.approx([1.0, 0.75, 0.5, 0.25])


def test_cosine_is_half_way_down_in_the_middle() -> None:
    values = rates("Cosine", "0", 8)
    assert values[0] == 1.0
    assert values[4] == pytest.approx(0.5)
    assert 0 < values[7] < 0.05


def test_one_step_learns_at_the_peak() -> None:
    assert rates("Cosine", "0.03", 1) == [1.0]


@pytest.mark.parametrize(
    ("ours", "theirs", "settings"),
    [
        ({"type": "Cosine"}, "cosine", {}),
        ({"type": "Cosine", "minRatio": "0.1"}, "cosine_with_min_lr", {"min_lr_rate": 0.1}),
        (
            {"type": "CosineWithRestarts", "cycles": 3},
            "cosine_with_restarts",
            {"num_cycles": 3},
        ),
        ({"type": "Linear"}, "linear", {}),
        (
            {"type": "Linear", "minRatio": "0.2"},
            "polynomial",
            {"power": 1.0, "lr_end": 0.2},
        ),
        (
            {"type": "Polynomial", "power": "2", "minRatio": "0.1"},
            "polynomial",
            {"power": 2.0, "lr_end": 0.1},
        ),
        ({"type": "Constant"}, "constant_with_warmup", {}),
        ({"type": "InverseSqrt"}, "inverse_sqrt", {}),
        (
            {"type": "WarmupStableDecay", "decayRatio": "0.3", "minRatio": "0.05"},
            "warmup_stable_decay",
            {"num_decay_steps": 6, "min_lr_ratio": 0.05},
        ),
    ],
)
@pytest.mark.parametrize("warmup", [0, 4])
def test_after_warm_up_the_rates_are_those_of_transformers(
    ours: dict[str, Any], theirs: str, settings: dict[str, Any], warmup: int
) -> None:
    total = 20
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=1.0)
    schedule = get_scheduler(theirs, optimizer, warmup, total, scheduler_specific_kwargs=settings)
    expected = []
    for _ in range(total):
        expected.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    scheduler = Scheduler.model_validate({**ours, "warmupSteps": warmup})
    found = [
        learning_rate(scheduler, peak=1.0, step=step, total_steps=total) for step in range(total)
    ]
    assert found[warmup:] == pytest.approx(expected[warmup:])
    assert found[:warmup] == [0.25, 0.5, 0.75, 1.0][:warmup]
