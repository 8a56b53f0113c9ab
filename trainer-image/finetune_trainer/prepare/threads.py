"""How many threads tokenization may use: the CPUs granted to the container, not the host's."""

from __future__ import annotations

import os

from finetune_trainer.prepare.workers import granted_cpus


def size_threads() -> None:
    """Tell the tokenizers library, before it is first used, how many threads to start."""
    os.environ.setdefault("RAYON_NUM_THREADS", str(granted_cpus()))
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
