"""The `prepare` stage: model and data from their sources to verified files and tokenized examples.

Whatever would waste an accelerator later fails here. `stage` is all that others call.
"""

from __future__ import annotations

from typing import Any

from finetune_trainer.run import Run
from finetune_trainer.workspace import Workspace


def stage(run: Run, workspace: Workspace) -> tuple[str, dict[str, Any]]:
    """Prepare `run` in `workspace`; a one-sentence summary and the contract's `result`.

    Raises:
        UserError: spec, model, data or token is wrong.
        RetryableError: the Hub failed.
    """
    # Imported late: threads are sized before the tokenizer's pool exists, and torch stays out.
    from finetune_trainer.prepare.apart import keep_torch_out
    from finetune_trainer.prepare.threads import size_threads

    size_threads()
    keep_torch_out()
    from finetune_trainer.prepare.recipe import prepare

    return prepare(run, workspace)


__all__ = ["stage"]
