"""Our own trainer, as a container runs it: the `train` stage on a prepared workspace.

The contract's environment comes from the driver. Losses are read from `history.jsonl`, by the
driver too.
"""

from __future__ import annotations

from pace import Pace


def main() -> None:
    """Train until the driver has seen enough."""
    pace = Pace()
    pace.start()
    from finetune_trainer.__main__ import main as stage

    stage(["train"])


if __name__ == "__main__":
    main()
