import pytest

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
