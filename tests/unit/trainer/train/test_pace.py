"""What step times say about throughput, use of the accelerator and time left."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from finetune_trainer.data.examples import Block, Example, Examples, write_examples
from finetune_trainer.train.pace import Pace
from finetune_trainer.work import Work

WORK = Work(body=10, head=0, trained=0, attention=0)  # 40 operations a token


@pytest.fixture
def examples(tmp_path: Path) -> Examples:
    """Documents of 10 and 30 tokens, of which 4 and 6 are trained on."""
    documents = [
        Example(tokens=np.zeros(length, dtype=np.int32), supervised=np.arange(length) >= prompt)
        for length, prompt in ((10, 6), (30, 24))
    ]
    write_examples(tmp_path, [Block.of(documents)])
    return Examples(tmp_path)


def test_throughput_is_over_all_steps_of_the_process(examples: Examples) -> None:
    pace = Pace()
    pace.add(examples, [0], 2.0)
    pace.add(examples, [1], 2.0)
    assert pace.metrics() == {
        "tokens": 40,
        "tokens_per_second": 10.0,
        "supervised_tokens_per_second": 2.5,
        "data_wait_seconds": 0.0,
    }


def test_the_time_left_follows_the_recent_pace(examples: Examples) -> None:
    pace = Pace()
    assert pace.eta_seconds(10) is None
    pace.add(examples, [0], 2.0)
    pace.add(examples, [0], 4.0)
    assert pace.eta_seconds(10) == 30.0


@pytest.mark.parametrize(
    ("work", "peak", "share"), [(WORK, 200.0, 0.5), (WORK, None, None), (None, 200.0, None)]
)
def test_utilization_needs_a_known_peak(
    work: Work | None, peak: float | None, share: float | None, examples: Examples
) -> None:
    pace = Pace(work, peak)
    pace.add(examples, [0], 4.0)
    assert pace.flops_utilization == share
    assert pace.metrics().get("mfu") == share


def test_only_the_wait_for_data_counts_as_one(examples: Examples) -> None:
    pause = threading.Event()

    def source() -> Iterator[int]:
        for item in range(3):
            pause.wait(0.01)
            yield item

    pace = Pace()
    stepped = 0.0
    for item in pace.waiting(source()):
        pause.wait(0.2)  # the step: not a wait
        stepped += item
    pace.add(examples, [0], 0.6)
    assert stepped == 3
    assert pace.metrics()["data_wait_seconds"] >= 0.03
