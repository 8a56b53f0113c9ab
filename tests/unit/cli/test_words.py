"""Numbers and times as people read them."""

from __future__ import annotations

import pytest

from finetune_cli.words import count, number, span


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (-5, "0s"), (59.9, "59s"), (192, "3m12s"), (7500, "2h05m"), (273600, "3d4h")],
)
def test_a_span_of_time(seconds: float | None, text: str) -> None:
    assert span(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("1.23456", "1.235"),
        ("0.00019", "0.00019"),
        ("12345.6", "12,346"),
        ("nan", "nan"),
        ("inf", "inf"),
        ("many", "many"),
        (None, "-"),
    ],
)
def test_a_number(value: str | None, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(7, "7"), (12345, "12.3k"), (20766720, "20.8M"), (2614341888, "2.6B"), (7e12, "7000.0B")],
)
def test_a_large_count(value: float, text: str) -> None:
    assert count(value) == text
