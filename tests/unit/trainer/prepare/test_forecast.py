"""How long training is said to take, from numbers alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from finetune_trainer.prepare.forecast import forecasts, operations, passes_of
from finetune_trainer.prepare.memory import count_parameters
from finetune_trainer.prepare.sizes import Sizes
from finetune_trainer.run import Lora
from finetune_trainer.train.flops import work_of
from finetune_trainer.train.methods.lora import add_lora
from unit.trainer.prepare.plans import plan
from unit.trainer.tiny import tiny_model

HOUR_OF_AN_H100 = 3600 * 989.4e12 * 0.4


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        (
            {"gpusPerNode": 1},
            ["60 min on 1 NVIDIA H100", "3 h 10 min on 1 NVIDIA A100", "8 h 11 min on 1 NVIDIA L4"],
        ),
        (
            {"gpusPerNode": 8, "nodes": 2},
            ["4 min on 16 NVIDIA H100", "12 min on 16 NVIDIA A100", "31 min on 16 NVIDIA L4"],
        ),
    ],
)
def test_the_same_work_takes_less_on_more_and_faster_devices(
    resources: dict[str, Any], expected: list[str]
) -> None:
    run = plan(resources=resources)
    assert list(forecasts(run, HOUR_OF_AN_H100, None, 4)) == expected


@pytest.mark.parametrize(
    ("resources", "cores", "expected"),
    [
        ({}, 2, "20 min on 2 CPUs like prepare's"),
        ({}, 1, "40 min on 1 CPU like prepare's"),
        ({"nodes": 2}, 2, "10 min on 2 nodes with 2 CPUs like prepare's"),
    ],
)
def test_cpus_are_judged_by_what_a_core_did(
    resources: dict[str, Any], cores: int, expected: str
) -> None:
    assert list(forecasts(plan(resources=resources), 6e13, 50e9, cores)) == [expected]


def test_a_short_run_is_not_told_to_the_second() -> None:
    assert list(forecasts(plan(), 1e9, 50e9, 2)) == ["1 min on 2 CPUs like prepare's"]


@pytest.mark.parametrize(
    ("training", "passes"),
    [
        ({"epochs": 3}, 3.0),
        # 10 steps of 4 sequences of 20.
        ({"maxSteps": 10, "sequencesPerStep": 4}, 2.0),
    ],
)
def test_data_are_passed_as_often_as_the_plan_says(training: dict[str, Any], passes: float) -> None:
    assert passes_of(plan(training=training), sequences=20) == passes


def test_the_work_is_that_of_the_model_as_it_is_trained() -> None:
    model = tiny_model()
    sizes = count_parameters(model.config, plan(method={"lora": {"rank": 4}}))
    lengths = np.array([30, 50])
    work = work_of(add_lora(model, Lora(rank=4)))
    assert work is not None
    assert operations(sizes, lengths, 20, 2.0) == 2 * work.flops(lengths, 20)


def test_of_an_architecture_that_nobody_can_count_nothing_is_said() -> None:
    assert operations(Sizes(parameters=1, trainable=1, inputs=1), np.array([5]), 5, 1.0) is None
