"""Start, find again, and stop the daemons of one cluster, each with a pid file and a log.

A daemon is recognised by its process id together with its start time, so a recycled id is never
mistaken for it. What the daemons are is decided elsewhere.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cluster.errors import ClusterError

_PR_SET_PDEATHSIG = 1

RESTARTS = 5
RESTART_PAUSE = 0.5


@dataclass(frozen=True)
class Service:
    """One daemon: what to run. Two with different contents are different daemons."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    revision: str = ""
    """Anything else that must cause a restart when it changes, such as a config file's hash."""

    @property
    def fingerprint(self) -> str:
        content = json.dumps([self.argv, sorted(self.env.items()), self.revision])
        return hashlib.sha256(content.encode()).hexdigest()


def started_at(pid: int) -> str | None:
    """When the process began, in an opaque form; None when there is no such live process."""
    if sys.platform == "linux":
        try:
            text = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            return None
        fields = text.rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]
    result = subprocess.run(
        ["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True
    )
    line = result.stdout.strip()
    return None if not line or line.startswith("Z") else line.partition(" ")[2].strip()


class Supervisor:
    """The daemons whose pid files and logs lie in one directory."""

    def __init__(self, directory: Path, *, die_with_parent: bool = False) -> None:
        self._pids = directory / "pids"
        self._logs = directory / "logs"
        self._die_with_parent = die_with_parent
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def log(self, name: str) -> Path:
        return self._logs / f"{name}.log"

    def names(self) -> list[str]:
        return sorted(path.stem for path in self._pids.glob("*.json"))

    def pid(self, name: str) -> int | None:
        """The process id of the daemon if it lives."""
        record = self._record(name)
        child = self._children.get(name)
        if child is not None:
            child.poll()
        if record is None or started_at(int(record["pid"])) != record["started"]:
            return None
        return int(record["pid"])

    def ensure(self, service: Service) -> bool:
        """Start the daemon unless it runs as asked; True when it was started."""
        record = self._record(service.name)
        if self.pid(service.name) is not None:
            if record is not None and record["fingerprint"] == service.fingerprint:
                return False
            self.stop(service.name)
        self._start(service)
        return True

    def stop(self, name: str, grace: float = 10.0) -> None:
        """End the daemon: asked first, then killed with its whole process group."""
        pid = self.pid(name)
        if pid is not None:
            if grace > 0:
                _signal(pid, signal.SIGTERM)
                self._until(lambda: self.pid(name) is None, grace)
            # In a session of its own, the group's id is the daemon's id.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
            if not self._until(lambda: self.pid(name) is None, 10.0):
                raise ClusterError(f"{name} (process {pid}) does not end: look at `ps {pid}`.")
        (self._pids / f"{name}.json").unlink(missing_ok=True)

    def wait(
        self,
        name: str,
        ready: Callable[[], bool],
        deadline: float,
        restarted: Service | None = None,
    ) -> None:
        """Poll until `ready`; the daemon's death or the deadline ends it with the log's tail.

        With `restarted`, a daemon that ends is started again a few times, as systemd would.
        """
        end = time.monotonic() + deadline
        restarts = 0 if restarted is None else RESTARTS
        while not ready():
            if self.pid(name) is None:
                if restarted is None or restarts == 0:
                    raise ClusterError(f"{name} ended while starting. {self._tail(name)}")
                restarts -= 1
                time.sleep(RESTART_PAUSE)
                self.ensure(restarted)
            if time.monotonic() > end:
                raise ClusterError(
                    f"{name} is not ready after {deadline:.0f} s. {self._tail(name)}"
                )
            time.sleep(0.03)

    def _start(self, service: Service) -> None:
        self._pids.mkdir(parents=True, exist_ok=True)
        self._logs.mkdir(parents=True, exist_ok=True)
        log = self.log(service.name)
        if log.exists():
            log.replace(log.with_suffix(".log.1"))
        with log.open("wb") as output:
            child = subprocess.Popen(
                service.argv,
                env={**os.environ, **service.env},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_die_with_parent if self._die_with_parent else None,
            )
        self._children[service.name] = child
        record = {
            "pid": child.pid,
            "started": started_at(child.pid),
            "fingerprint": service.fingerprint,
        }
        partial = self._pids / f"{service.name}.partial"
        partial.write_text(json.dumps(record))
        partial.replace(self._pids / f"{service.name}.json")

    def _record(self, name: str) -> dict[str, str] | None:
        try:
            record = json.loads((self._pids / f"{name}.json").read_text())
        except (OSError, ValueError):
            return None
        return record if isinstance(record, dict) else None

    def _tail(self, name: str, lines: int = 15) -> str:
        try:
            text = self.log(name).read_text(errors="replace")
        except OSError:
            text = ""
        tail = "\n".join("    " + line[:300] for line in text.splitlines()[-lines:])
        return f"The end of {self.log(name)}:\n{tail or '    (empty)'}"

    @staticmethod
    def _until(condition: Callable[[], bool], seconds: float) -> bool:
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                return False
            time.sleep(0.02)
        return True


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
