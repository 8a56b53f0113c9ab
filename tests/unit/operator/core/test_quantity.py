from decimal import Decimal

import pytest

from finetune_operator.core.quantity import format_bytes, parse_quantity


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("8", "8"),
        ("1.5", "1.5"),
        ("500m", "0.5"),
        ("2k", "2000"),
        ("1Ki", "1024"),
        ("64Gi", str(64 * 2**30)),
        ("3M", "3000000"),
        ("1P", "1" + 15 * "0"),
    ],
)
def test_a_quantity_is_the_number_it_means(text: str, number: str) -> None:
    assert parse_quantity(text) == Decimal(number)


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0"), (1023, "1023"), (1024, "1.0Ki"), (1288490188, "1.2Gi"), (3 * 2**50, "3.0Pi")],
)
def test_bytes_are_shown_with_one_decimal(count: int, text: str) -> None:
    assert format_bytes(count) == text
