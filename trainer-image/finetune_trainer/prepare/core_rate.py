"""How fast a core of this machine multiplies matrices: for runs that train on CPUs."""

from __future__ import annotations

import time

import torch

from finetune_trainer.run import Precision
from finetune_trainer.train.device import compute_dtype

SIZE, TIMES = 1024, 4


def core_rate(precision: Precision) -> float:
    """Operations a second in the format that training would compute with here.

    By the CPU's time, not the clock's: a pod's quota is not the core's pace.
    """
    dtype = compute_dtype(precision, torch.device("cpu"))
    matrix = torch.ones(SIZE, SIZE, dtype=dtype)
    matrix @ matrix
    started = time.process_time()
    for _ in range(TIMES):
        matrix @ matrix
    return 2 * SIZE**3 * TIMES / max(time.process_time() - started, 1e-9)
