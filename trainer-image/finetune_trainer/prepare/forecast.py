"""How long training will take, told before a GPU is asked for: an estimate by what it computes.

The operations are counted; which share of a device's peak a run gets is assumed. Evaluations,
checkpoints and losses without gradients are not in it. `train` tells the time left as it is.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from finetune_trainer.duration import duration
from finetune_trainer.prepare.sizes import Sizes
from finetune_trainer.run import Run
from finetune_trainer.work import PEAKS

# Of an accelerator's peak; large models on many of them are reported to get 38 to 46 % (Chowdhery
# et al., arXiv:2204.02311, table 3; Grattafiori et al., arXiv:2407.21783, table 4).
ACCELERATOR_SHARE = 0.4
# Of the rate at which a core multiplies matrices that stay in its cache, as benchmarks/ measures.
CORE_SHARE = 0.5
# Which one a run gets is the cluster's matter. The first is the one that status names.
ACCELERATORS = ("NVIDIA H100", "NVIDIA A100", "NVIDIA L4")


def operations(
    sizes: Sizes, lengths: NDArray[np.int64], supervised: int, passes: float
) -> float | None:
    """Of `passes` over documents of these lengths with `supervised` tokens; None if unknown."""
    return None if sizes.work is None else passes * sizes.work.flops(lengths, supervised)


def passes_of(run: Run, sequences: int) -> float:
    """How many times training sees each of its packed sequences."""
    training = run.training
    if training.max_steps:
        return training.max_steps * training.sequences_per_step / sequences
    return float(training.epochs or 1)


def forecasts(run: Run, needed: float, core_rate: float | None, cores: int) -> Iterator[str]:
    """`48 min on 3 NVIDIA H100` for several devices, or for `cores` that each do `core_rate`
    operations a second.
    """
    devices = run.resources.nodes * run.resources.gpus_per_node
    if devices:
        for name in ACCELERATORS:
            seconds = needed / (devices * PEAKS[name] * ACCELERATOR_SHARE)
            yield f"{_told(seconds)} on {devices} {name}"
    elif core_rate:
        nodes = run.resources.nodes
        seconds = needed / (nodes * cores * core_rate * CORE_SHARE)
        on = f"{nodes} nodes with " if nodes > 1 else ""
        yield f"{_told(seconds)} on {on}{cores} CPU{'s' if cores > 1 else ''} like prepare's"


def _told(seconds: float) -> str:
    """Seconds would promise too much."""
    return f"{max(1, round(seconds / 60))} min" if seconds < 100 else duration(seconds)
