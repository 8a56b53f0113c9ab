"""Several data sets in one epoch: how many rows of each, and which, by their weights.

Without weights an epoch has every row of every set once. With them the rows are shared out in
proportion, and the epoch ends where the first set would run out, as `interleave_datasets` of the
`datasets` library does with `first_exhausted`: no row comes twice in an epoch, and what a set has
beyond its share is left out. The counts are exact, not drawn.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# Keeps this draw apart from others that the run makes with the same seed.
STREAM = 0x4D4958


def shares(available: Sequence[int], weights: Sequence[float]) -> list[int]:
    """Rows to take of each set: in proportion to `weights` (> 0), at least 1, at most `available`
    (> 0 each).
    """
    unit = min(rows / weight for rows, weight in zip(available, weights, strict=True))
    return [
        min(rows, max(1, round(unit * weight)))
        for rows, weight in zip(available, weights, strict=True)
    ]


def draw(candidates: NDArray[np.bool_], count: int, seed: int, index: int) -> NDArray[np.bool_]:
    """`count` of the rows that `candidates` marks, shape [rows], drawn by (seed, index)."""
    rows = np.flatnonzero(candidates)
    chosen = np.zeros_like(candidates)
    chosen[np.random.default_rng((seed, STREAM, index)).permutation(rows)[:count]] = True
    return chosen
