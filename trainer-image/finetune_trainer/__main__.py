"""`finetune-trainer VERB`: one verb per stage.

Only the verb is chosen here. Each stage imports what it needs itself, so that `upload`
does not pay for torch.
"""

from __future__ import annotations

import sys
from contextlib import nullcontext
from importlib import import_module
from typing import Any

from finetune_trainer.outcome import run_stage
from finetune_trainer.quiet import hush_libraries
from finetune_trainer.report import leave_report
from finetune_trainer.run import load_run
from finetune_trainer.terminate import ending_at_sigterm
from finetune_trainer.workspace import Workspace

VERBS = {
    "prepare": "finetune_trainer.prepare",
    "train": "finetune_trainer.train",
    "merge": "finetune_trainer.merge",
    "upload": "finetune_trainer.publish",
}


def main(arguments: list[str]) -> int:
    """Run the stage named by the one argument; the exit code is the contract's."""
    if len(arguments) != 1 or arguments[0] not in VERBS:
        print(f"usage: finetune-trainer {{{','.join(VERBS)}}}", file=sys.stderr)
        return 2
    verb = arguments[0]
    hush_libraries()
    workspace = Workspace.from_environment()

    def body() -> tuple[str, dict[str, Any]]:
        # `train` ends later: at its next checkpoint.
        with nullcontext() if verb == "train" else ending_at_sigterm(verb, workspace):
            # Every package has `stage(run, workspace) -> (message, result)`.
            said: tuple[str, dict[str, Any]] = import_module(VERBS[verb]).stage(
                load_run(), workspace
            )
            return said

    code = run_stage(verb, body, workspace)
    # Whatever comes of it: how the stage ended is written down, and the exit code stands.
    leave_report(workspace)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
