"""The loss curve in characters."""

from __future__ import annotations

import math

import pytest

from finetune_cli.history import History
from finetune_cli.show.curve import curve

FALLING = History({step: 1 + math.exp(-step / 20) for step in range(1, 101)}, {50: 1.2, 100: 1.1})


def lines(history: History, width: int = 60, *, ascii_only: bool = False) -> list[str]:
    drawn = curve(history, width, ascii_only=ascii_only, height=5)
    assert drawn is not None
    return drawn.plain.splitlines()


def test_a_falling_loss_falls_from_left_to_right() -> None:
    drawn = lines(FALLING, ascii_only=True)
    first = drawn[0].index("|")
    columns = [line[first + 1 :].find("*") for line in drawn[:5]]
    assert columns == sorted(columns)
    assert columns[0] == 0


def test_the_axes_tell_the_highest_and_the_lowest_loss_and_the_steps() -> None:
    drawn = lines(FALLING)
    assert drawn[0].startswith("1.95 │")
    assert drawn[4].startswith("1.01 │")
    assert drawn[6].split() == ["step", "1", "100"]


def test_the_validation_loss_is_marked() -> None:
    drawn = lines(FALLING)
    assert "".join(drawn[:5]).count("●") == 2
    assert "● validation loss" in drawn[-1]


@pytest.mark.parametrize("width", [40, 79, 200])
def test_it_is_as_wide_as_it_may_be(width: int) -> None:
    assert max(map(len, lines(FALLING, width))) == width


def test_a_loss_that_stays_the_same_is_one_line_in_the_middle() -> None:
    drawn = lines(History({1: 2.0, 9: 2.0}))[:5]
    assert [line.strip(" 2│") != "" for line in drawn] == [False, False, True, False, False]


@pytest.mark.parametrize("history", [History(), History({1: 2.0})])
def test_nothing_is_drawn_of_less_than_two_points(history: History) -> None:
    assert curve(history, 80, ascii_only=False) is None


def test_nothing_is_drawn_where_there_is_no_room() -> None:
    assert curve(FALLING, 30, ascii_only=False) is None
