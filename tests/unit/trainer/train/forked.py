"""`finetune-trainer train` in a process of its own, forked from one that has loaded torch: tens of
them take the time of a few that load it themselves.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import forkserver
from typing import Any

import pytest

from finetune_trainer.__main__ import main
from finetune_trainer.outcome import Outcome
from finetune_trainer.run import Run
from finetune_trainer.train import recipe  # noqa: F401 (what takes long)
from finetune_trainer.workspace import Workspace
from unit.trainer.train.made import container_environment

# Two ranks import torch each, on a machine that may be busy.
SECONDS = 240


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended: by its exit code, its termination message, and its log."""

    outcome: Outcome
    message: str
    result: dict[str, Any]
    log: str


def run_to_its_end(
    workspace: Workspace,
    run: Run | dict[str, Any],
    before: Callable[[], object] | None = None,
    **environment: str,
) -> Ended:
    """Train as a container would; `before`, which can be pickled, is called in the process."""
    log, said = workspace.root.with_name("log"), workspace.root.with_name("termination-log")
    said.unlink(missing_ok=True)
    environment |= {"FINETUNE_TERMINATION_LOG": str(said)}
    given = container_environment(workspace, run, **environment)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with pytest.MonkeyPatch.context() as patch:
        # By this, not by `sys.path`, the server finds what it loads.
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        forkserver.ensure_running()
    process = context.Process(target=_train, args=(given, str(log), before))
    process.start()
    process.join(SECONDS)
    if process.exitcode is None:
        process.kill()
        pytest.fail(f"it did not end:\n{log.read_text()}")
    document = json.loads(said.read_text())
    outcome = Outcome(process.exitcode)
    assert document["outcome"] == outcome.label
    return Ended(outcome, document["message"], document["result"], log.read_text())


def _train(environment: dict[str, str], log: str, before: Callable[[], object] | None) -> None:
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(file, stream)
    # Those of the process that is a test's are none of the container's.
    os.environ.update(environment)
    if before is not None:
        before()
    sys.exit(main(["train"]))
