"""The learning rate as a function of the step: warm-up, then cosine, linear or constant.

It has no state, so a resumed run needs nothing but the step.
"""

from __future__ import annotations

import math

from finetune_trainer.run import Scheduler


def learning_rate(scheduler: Scheduler, *, peak: float, step: int, total_steps: int) -> float:
    """The rate of the step after `step` finished ones.

    Warm-up rises in equal parts and reaches `peak` with its last step; the first step already
    learns, other than with a schedule that starts at zero. Cosine (Loshchilov & Hutter,
    arXiv:1608.03983, without restarts) and linear fall towards zero, which they would reach one
    step after the last.
    """
    warmup = math.ceil(scheduler.warmup_ratio * total_steps)
    if step < warmup:
        return peak * (step + 1) / warmup
    if scheduler.type == "Constant":
        return peak
    progress = (step - warmup) / max(1, total_steps - warmup)
    if scheduler.type == "Linear":
        return peak * (1.0 - progress)
    return peak * 0.5 * (1.0 + math.cos(math.pi * progress))
