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
