"""Which techniques of this package a run uses, and the switch to do without them.

The switch is for measuring what each gives (benchmarks/), and for finding out which one is to blame
when a run goes wrong.
"""

from __future__ import annotations

import os

SWITCH = "FINETUNE_SPEED_WITHOUT"
TECHNIQUES = ("prefixes", "attention", "loss", "lora", "residual", "compile")


def enabled(technique: str) -> bool:
    """Whether `technique` is not among those, separated by commas, that the switch names."""
    assert technique in TECHNIQUES
    return technique not in os.environ.get(SWITCH, "").split(",")
