"""The learning rate as a function of the step: warm-up, then one of the shapes below.

It has no state, so a resumed run needs nothing but the step. After warm-up the shapes are those of
transformers' `get_scheduler`.
"""

from __future__ import annotations

import math

from finetune_trainer.run import Scheduler

# Where InverseSqrt has no warm-up whose length it could take, as in transformers.
TIMESCALE = 10_000


def learning_rate(scheduler: Scheduler, *, peak: float, step: int, total_steps: int) -> float:
    """The rate of the step after `step` finished ones.

    Warm-up rises in equal parts and reaches `peak` with its last step; the first step already
    learns, other than with a schedule that starts at zero. What falls to an end would reach it one
    step after the last.
    """
    warmup = scheduler.warmup_steps
    if warmup is None:
        warmup = math.ceil(scheduler.warmup_ratio * total_steps)
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * _share(scheduler, step, warmup, total_steps)


def _share(scheduler: Scheduler, step: int, warmup: int, total_steps: int) -> float:
    """Of the peak, after warm-up."""
    progress = (step - warmup) / max(1, total_steps - warmup)
    match scheduler.type:
        case "Constant":
            return 1.0
        case "InverseSqrt":
            # Vaswani et al., arXiv:1706.03762, section 5.3.
            scale = warmup or TIMESCALE
            return math.sqrt(scale / (step - warmup + scale))
        case "Linear":
            share = 1.0 - progress
        case "Polynomial":
            share = (1.0 - progress) ** scheduler.power
        case "Cosine":
            # Loshchilov & Hutter, arXiv:1608.03983, without restarts.
            share = _cosine(progress)
        case "CosineWithRestarts":
            share = _cosine(scheduler.cycles * progress % 1.0)
        case "WarmupStableDecay":
            # Hu et al., arXiv:2404.06395.
            decay = max(1, math.ceil(scheduler.decay_ratio * total_steps))
            share = _cosine(max(0.0, (step - total_steps + decay) / decay))
    return share * (1.0 - scheduler.min_ratio) + scheduler.min_ratio


def _cosine(progress: float) -> float:
    return 0.5 * (1.0 + math.cos(math.pi * progress))
