"""`python -m finetune_trainer.train.worker`: one rank of several in a pod.

It leaves its outcome in a file for the process that started it, which alone speaks for the pod.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from finetune_trainer.outcome import Outcome, classify, describe, print_trace
from finetune_trainer.quiet import hush_libraries
from finetune_trainer.run import load_run
from finetune_trainer.train.launch import OUTCOME_FILE
from finetune_trainer.train.stop import Stop
from finetune_trainer.workspace import Workspace, write_json


def main() -> int:
    """Train as the rank that the environment names; the exit code is the contract's."""
    result: dict[str, Any] = {}
    hush_libraries()
    try:
        stop = Stop().install()
        from finetune_trainer.train.recipe import train  # after the signal handler: torch is slow

        message, result = train(load_run(), Workspace.from_environment(), stop)
        outcome = Outcome.SUCCEEDED
    except Exception as error:
        outcome, message = classify(error), describe(error, "train")
        print_trace(error)
    write_json(
        Path(os.environ[OUTCOME_FILE]),
        {"outcome": int(outcome), "message": message, "result": result},
    )
    return int(outcome)


if __name__ == "__main__":
    sys.exit(main())
