"""Which rows are kept for validation: a fraction drawn by the seed, before anything else is done.

A row, not a piece of it, is drawn, so nothing of a validation row is trained.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from finetune_trainer.outcome import UserError

# Keeps this draw apart from others that the run makes with the same seed.
STREAM = 0x56414C


def validation_rows(rows: int, fraction: float, seed: int, field: str) -> NDArray[np.bool_]:
    """True for the rows to validate on, shape [rows]: at least one, and never all.

    Args:
        field: the data set's, as sentences name it.

    Raises:
        UserError: there are too few rows to split.
    """
    if rows < 2:
        raise UserError(
            f"spec.{field}.validation.fraction cannot split {rows} row: name more rows, or leave "
            "validation out."
        )
    count = min(max(round(rows * fraction), 1), rows - 1)
    chosen = np.zeros(rows, dtype=np.bool_)
    chosen[np.random.default_rng((seed, STREAM)).permutation(rows)[:count]] = True
    return chosen


def stratified_rows(
    codes: NDArray[np.int64], fraction: float, seed: int, field: str
) -> NDArray[np.bool_]:
    """The same fraction of the rows of every class, `codes` being the rows' classes, shape [rows],
    and negative for none: at least one, where a class has two.

    Raises:
        UserError: no class has two rows.
    """
    chosen = np.zeros(len(codes), dtype=np.bool_)
    order = np.random.default_rng((seed, STREAM)).permutation(len(codes))
    for code in np.unique(codes[codes >= 0]):
        rows = order[codes[order] == code]
        chosen[rows[: min(max(round(len(rows) * fraction), 1), len(rows) - 1)]] = True
    if not chosen.any():
        raise UserError(
            f"spec.{field}.validation.stratified cannot split classes of one row each: name more "
            "rows, or leave validation out."
        )
    return chosen
