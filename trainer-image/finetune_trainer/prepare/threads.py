"""How many threads tokenization may use: the CPUs granted to the container, not the host's."""

from __future__ import annotations

import os


def size_threads() -> None:
    """Tell the tokenizers library, before it is first used, how many threads to start."""
    granted = os.environ.get("FINETUNE_CPUS") or str(len(os.sched_getaffinity(0)))
    os.environ.setdefault("RAYON_NUM_THREADS", granted)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
