"""`finetune-trainer train` in a process of its own, forked from one that has loaded torch, and the
ranks of its pod forked from that: tens of them take the time of a few that load it themselves.

That they are started as a container starts them is left to `test_launch.py`.
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
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from finetune_trainer import stage_log
from finetune_trainer.__main__ import main
from finetune_trainer.outcome import Outcome
from finetune_trainer.run import Run
from finetune_trainer.train import launch, worker
from finetune_trainer.workspace import Workspace
from unit.trainer.train.made import container_environment

# Torch is loaded before the first of them, on a machine that may be busy.
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
    pytest.MonkeyPatch().setattr(launch, "subprocess", SimpleNamespace(Popen=_Worker))
    if before is not None:
        before()
    sys.exit(main(["train"]))


class _Worker:
    """One rank of several in a pod, forked from the pod; what the pod asks of a `Popen`."""

    def __init__(self, command: list[str], env: dict[str, str]) -> None:
        assert command[1:] == ["-m", worker.__name__]
        self.returncode: int | None = None
        sys.stdout.flush()
        self._pid = os.fork()
        if self._pid:
            return
        try:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.environ.clear()
            os.environ.update(env)
            code = worker.main()
        except BaseException:
            traceback.print_exc()
            code = 1
        sys.stdout.flush()
        os._exit(code)

    def poll(self) -> int | None:
        return self._ended(os.WNOHANG)

    def wait(self) -> int | None:
        return self._ended(0)

    def terminate(self) -> None:
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self._pid, number)

    def _ended(self, options: int) -> int | None:
        if self.returncode is None:
            ended, status = os.waitpid(self._pid, options)
            if ended:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode
