"""`finetune-trainer train` in a process of its own, forked from one that has loaded torch: tens of
them take the time of a few that load it themselves.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pytest

from finetune_trainer import stage_log
from finetune_trainer.__main__ import main
from finetune_trainer.outcome import Outcome
from finetune_trainer.run import Run
from finetune_trainer.workspace import Workspace
from unit.trainer.train.made import container_environment

# Two ranks import torch each, on a machine that may be busy.
SECONDS = 240
LOADED = "unit.trainer.train.loaded"


class Forked:
    """A training in a process of its own; what a test may ask of a `Popen` it may ask of this."""

    def __init__(self, process: ForkServerProcess, log: Path) -> None:
        self._process, self._log = process, log

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def send_signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float = SECONDS) -> tuple[str, None]:
        """All that it wrote. TimeoutExpired if it has not ended by then."""
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired("train", timeout)
        return self._log.read_text(), None


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended: by its exit code, its termination message, and its log."""

    outcome: Outcome
    message: str
    result: dict[str, Any]
    log: str


def start(
    workspace: Workspace,
    run: Run | dict[str, Any],
    before: Callable[[], object] | None = None,
    /,
    **environment: str,
) -> Forked:
    """Train as a container would; `before`, which can be pickled, is called in the process."""
    given = container_environment(workspace, run, **environment)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, LOADED])
    with pytest.MonkeyPatch.context() as patch:
        # By this, not by `sys.path`, the server finds what it loads.
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        forkserver.ensure_running()
    # Beside the workspace, which may be anything by now.
    file, log = tempfile.mkstemp(dir=workspace.root.parent, prefix="log-")
    os.close(file)
    process = context.Process(target=_train, args=(given, log, before), daemon=True)
    process.start()
    return Forked(process, Path(log))


def run_to_its_end(
    workspace: Workspace,
    run: Run | dict[str, Any],
    before: Callable[[], object] | None = None,
    /,
    **environment: str,
) -> Ended:
    """The same, and wait for it."""
    said = workspace.root.with_name("termination-log")
    said.unlink(missing_ok=True)
    environment |= {"FINETUNE_TERMINATION_LOG": str(said)}
    process = start(workspace, run, before, **environment)
    try:
        log, _ = process.communicate()
    except subprocess.TimeoutExpired:
        process.kill()
        pytest.fail(f"it did not end:\n{process.communicate()[0]}")
    document = json.loads(said.read_text())
    assert process.returncode is not None
    outcome = Outcome(process.returncode)
    assert document["outcome"] == outcome.label
    return Ended(outcome, document["message"], document["result"], log)


def _train(environment: dict[str, str], log: str, before: Callable[[], object] | None) -> None:
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(file, stream)
    # Those of the process that is a test's are none of the container's.
    os.environ.update(environment)
    stage_log.BEGAN = round(time.time(), 3)
    if before is not None:
        before()
    sys.exit(main(["train"]))
