"""What step times say about throughput, use of the accelerator and time left."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from finetune_trainer.train.pace import Pace


def test_throughput_is_over_all_steps_of_the_process() -> None:
    pace = Pace()
    pace.add(100, 2.0, supervised=40)
    pace.add(300, 2.0, supervised=60)
    assert pace.metrics() == {
        "tokens": 400,
        "tokens_per_second": 100.0,
        "supervised_tokens_per_second": 25.0,
        "data_wait_seconds": 0.0,
    }


def test_the_time_left_follows_the_recent_pace() -> None:
    pace = Pace()
    assert pace.eta_seconds(10) is None
    pace.add(1, 2.0)
    pace.add(1, 4.0)
    assert pace.eta_seconds(10) == 30.0


@pytest.mark.parametrize(
    ("peak", "flops", "share"), [(1000.0, 2000.0, 0.5), (None, 2000.0, None), (1000.0, 0.0, None)]
)
def test_utilization_needs_a_known_peak(
    peak: float | None, flops: float, share: float | None
) -> None:
    pace = Pace(peak)
    pace.add(1, 4.0, flops=flops)
    assert pace.flops_utilization == share
    assert pace.metrics().get("mfu") == share


def test_only_the_wait_for_data_counts_as_one() -> None:
    pause = threading.Event()

    def source() -> Iterator[int]:
        for item in range(3):
            pause.wait(0.01)
            yield item

    pace = Pace()
    seen = []
    for item in pace.waiting(source()):
        pause.wait(0.2)  # the step: not a wait
        seen.append(item)
    pace.add(1, 0.6)
    assert seen == [0, 1, 2]
    assert 0.03 <= pace.metrics()["data_wait_seconds"] < 0.2
