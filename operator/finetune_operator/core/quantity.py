"""Kubernetes quantities: text → number, and bytes → text for people."""

from __future__ import annotations

from decimal import Decimal

_FACTORS = {
    "m": Decimal("0.001"),
    "k": Decimal(10**3),
    "M": Decimal(10**6),
    "G": Decimal(10**9),
    "T": Decimal(10**12),
    "P": Decimal(10**15),
    "E": Decimal(10**18),
    "Ki": Decimal(2**10),
    "Mi": Decimal(2**20),
    "Gi": Decimal(2**30),
    "Ti": Decimal(2**40),
    "Pi": Decimal(2**50),
    "Ei": Decimal(2**60),
}


def parse_quantity(text: str) -> Decimal:
    """The number that a quantity means, as the spec or the API server writes it."""
    number = text.rstrip("mkKMGTPEi")
    return Decimal(number) * _FACTORS.get(text[len(number) :], Decimal(1))


def format_bytes(count: int) -> str:
    """As in 1.2Gi: one decimal, the largest unit that leaves a number of at least 1."""
    for unit in ("Pi", "Ti", "Gi", "Mi", "Ki"):
        if count >= _FACTORS[unit]:
            return f"{count / _FACTORS[unit]:.1f}{unit}"
    return str(count)
