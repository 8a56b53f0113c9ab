"""One attempt of a stage as a process, with what a kubelet does for a container: files before it,
SIGTERM and in the end SIGKILL, its exit code and last words after it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from finetune_cli.errors import CliError
from finetune_cli.local.mounts import TERMINATION_LOG, Mount, below, environment
from finetune_operator.core.failure import SIGNAL_BASE
from finetune_operator.core.model import Termination
from finetune_operator.core.moments import to_text
from finetune_operator.core.reporting import termination_document

Json = Mapping[str, Any]
TAIL_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Machine:
    """With which Python stages run, and what their log and the lock of the place are."""

    python: str
    log: Path
    lock: int


class StageProcess:
    """A process of the stage that the pod describes, from its start on."""

    def __init__(self, pod: Json, found: Sequence[Mount], machine: Machine) -> None:
        self._log = machine.log
        self._grace = float(pod["terminationGracePeriodSeconds"])
        self._kill_at: float | None = None
        self._left: Termination | None = None
        # Beside the workspace, not in it: a token is here while its stage runs.
        self._root = Path(tempfile.mkdtemp(prefix="finetune-"))
        self._started = to_text(datetime.now(UTC))
        try:
            _lay_out(self._root, found)
            self._process = self._start(pod, found, machine)
        except OSError as error:
            shutil.rmtree(self._root, ignore_errors=True)
            raise CliError(
                f"A stage cannot be started ({error.strerror}: {error.filename}): see to it and "
                "run the same command again."
            ) from None
        except BaseException:
            shutil.rmtree(self._root, ignore_errors=True)
            raise

    @property
    def pid(self) -> int:
        return self._process.pid

    def stop(self, *, at_once: bool = False) -> None:
        """Ask it to end, as a kubelet does; or, `at_once`, make it."""
        if at_once:
            self._signal_all(signal.SIGKILL)
        elif self._kill_at is None:
            self._kill_at = time.monotonic() + self._grace
            self._process.terminate()

    def ended(self) -> Termination | None:
        """How it ended; None while it runs."""
        if self._left is not None:
            return self._left
        if self._runs():
            if self._kill_at is not None and time.monotonic() > self._kill_at:
                self._signal_all(signal.SIGKILL)
            return None
        # What it has started and left behind; its number is its own until it is waited for.
        self._signal_all(signal.SIGKILL)
        code = self._process.wait()
        document = termination_document(self._last_words())
        shutil.rmtree(self._root, ignore_errors=True)
        self._left = Termination(
            exit_code=code if code >= 0 else SIGNAL_BASE - code,
            document=document,
            pod_message="" if document else self._last_line(),
            started_at=self._started,
        )
        return self._left

    def _start(
        self, pod: Json, found: Sequence[Mount], machine: Machine
    ) -> subprocess.Popen[bytes]:
        with machine.log.open("wb") as log:
            return subprocess.Popen(
                [machine.python, "-m", "finetune_trainer", *pod["containers"][0]["args"]],
                env=environment(pod, self._root, found, os.environ),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # A terminal's Ctrl-C is for `finetune run`, which asks for a checkpoint.
                start_new_session=True,
                pass_fds=(machine.lock,),
            )

    def _runs(self) -> bool:
        how = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self._process.pid, how) is None

    def _signal_all(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    def _last_words(self) -> bytes:
        try:
            return below(self._root, TERMINATION_LOG).read_bytes()
        except OSError:
            return b""

    def _last_line(self) -> str:
        try:
            with self._log.open("rb") as file:
                file.seek(max(0, self._log.stat().st_size - TAIL_BYTES))
                lines = file.read().decode(errors="replace").splitlines()
        except OSError:
            return ""
        return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _lay_out(root: Path, found: Sequence[Mount]) -> None:
    below(root, TERMINATION_LOG).parent.mkdir(parents=True)
    for mount in found:
        place = below(root, mount.at)
        place.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(mount.content, Path):
            place.symlink_to(mount.content, target_is_directory=True)
            continue
        place.mkdir(exist_ok=True)
        for name, content in mount.content.items():
            # Copied, for a stage trusts no link that leads out of what it was given.
            data = content.read_bytes() if isinstance(content, Path) else content
            (place / name).write_bytes(data)
