from __future__ import annotations

import pytest

from finetune_trainer.report.figure import Scale, grouped, smoothed, spread, tick_label, ticks


@pytest.mark.parametrize(
    ("low", "high", "found"),
    [
        (0, 10, [0, 2, 4, 6, 8, 10]),
        (1.42, 3.3, [1.5, 2.0, 2.5, 3.0]),
        (0, 2e-4, [0, 5e-5, 1e-4, 1.5e-4, 2e-4]),
        (5, 5, [5]),
        (-1, 1, [-1, -0.5, 0, 0.5, 1]),
        (0, 1.2, [0, 0.25, 0.5, 0.75, 1]),
    ],
)
def test_ticks_are_round_and_within(low: float, high: float, found: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(found)


@pytest.mark.parametrize(
    ("value", "step", "label"),
    [
        (0, 1, "0"),
        (1.5, 0.5, "1.5"),
        (2, 1, "2"),
        (0.5, 0.25, "0.50"),
        (1.5e-4, 5e-5, "1.5e-4"),
        (10_000, 5000, "10,000"),
        (200_000, 50_000, "200k"),
        (5000, 5000, "5,000"),
        (2_000_000, 500_000, "2M"),
    ],
)
def test_a_label_has_the_digits_that_it_needs(value: float, step: float, label: str) -> None:
    assert tick_label(value, step) == label


def test_no_spike_is_lost_in_a_group() -> None:
    values = [1.0] * 999 + [50.0]
    groups = grouped(range(1000), values, most=10)
    assert len(groups) == 10
    assert groups[-1].high == 50
    assert groups[-1].mean == pytest.approx(1.49)
    assert groups[0].step == 49.5


def test_few_points_are_groups_of_one() -> None:
    assert [(g.step, g.mean) for g in grouped([1, 2], [3.0, 4.0], most=10)] == [(1, 3), (2, 4)]


def test_a_moving_mean_begins_where_the_values_do_and_does_not_end_with_the_last_one() -> None:
    assert smoothed([1, 2, 3, 10, 5], 1) == [1, 2, 5, 6, 7.5]


def test_labels_are_moved_apart_in_their_order_and_within_bounds() -> None:
    assert spread([10, 11, 50], 10, 0, 100) == [10, 20, 50]
    assert spread([98, 99], 10, 0, 100) == [90, 100]
    assert spread([30, 10], 5, 0, 100) == [30, 10]


def test_a_scale_keeps_values_within_itself() -> None:
    scale = Scale(0, 10, 100, 200)
    assert [scale(value) for value in (-5, 0, 5, 50)] == [100, 100, 150, 200]
    assert Scale(3, 3, 0, 10)(3) == 5
