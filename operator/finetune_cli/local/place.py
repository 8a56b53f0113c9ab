"""The directory of a run: the workspace of the contract, and beside it, in `local/`, what a cluster
would keep: the resource with its status, the pinned plans, logs, and who works here now.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from finetune_cli.errors import CliError
from finetune_operator.build.plan import RUN, plan_of
from finetune_operator.core.model import Plan
from finetune_operator.core.naming import plan_name

Json = dict[str, Any]
LOCAL = "local"


class Place:
    """Paths and files of one run's directory."""

    def __init__(self, root: Path) -> None:
        self.root = root.expanduser().absolute()
        self._local = self.root / LOCAL
        self._lock: IO[str] | None = None

    @property
    def report(self) -> Path:
        return self.root / "report.html"

    @property
    def state(self) -> Path:
        """The resource as `kubectl get -o json` shows one."""
        return self._local / "finetunejob.json"

    def log(self, job: str) -> Path:
        """What the process of this Job has printed."""
        return self._local / "logs" / f"{job}.log"

    def load(self, name: str) -> Json | None:
        """The resource of the run that this directory holds; None in a new one.

        Raises:
            CliError: what it holds is another run's, or nobody knows whose.
        """
        remedy = "name another one with --workspace."
        try:
            document: Json = json.loads(self.state.read_bytes())
            known = document["metadata"]["name"]
        except (FileNotFoundError, NotADirectoryError):
            if self._holds_something():
                raise CliError(
                    f"{self.root} is not empty, and no `finetune run` has made what is in it: "
                    f"{remedy}"
                ) from None
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CliError(
                f"{self.state} cannot be read ({type(error).__name__}), so what {self.root} holds "
                f"is not known: {remedy}"
            ) from None
        if known != name:
            raise CliError(f"{self.root} is the directory of the run {known}, not {name}: {remedy}")
        return document

    def save(self, document: Json) -> None:
        """Keep the resource; a reader sees the old one or the new one."""
        self._write(self.state, document)

    def plan(self, run: str, plan_hash: str | None) -> Plan | None:
        """The pinned plan with this hash."""
        if plan_hash is None:
            return None
        try:
            return plan_of(json.loads(self._plan(plan_name(run, plan_hash)).read_bytes()))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def pin(self, config_map: Json) -> None:
        """Keep a plan, as the ConfigMap that pins it in a cluster."""
        self._write(self._plan(config_map["metadata"]["name"]), config_map)

    def run_json(self, config_map: str) -> bytes:
        """What the plan that this ConfigMap pins tells the stages."""
        text: str = json.loads(self._plan(config_map).read_bytes())["data"][RUN]
        return text.encode()

    def _plan(self, config_map: str) -> Path:
        return self._local / "plans" / f"{config_map}.json"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Nobody else works here meanwhile; nor after it, while a process of this run lives on.

        Raises:
            CliError: somebody does, or the directory cannot be used.
        """
        try:
            for folder in ("logs", "plans"):
                (self._local / folder).mkdir(parents=True, exist_ok=True)
            self._lock = (self._local / "lock").open("a+")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            assert self._lock is not None
            self._lock.seek(0)
            numbers = " ".join(self._lock.read().split()) or "unknown"
            raise CliError(
                f"Another `finetune run`, or a stage that one has left behind, works in "
                f"{self.root} (process {numbers}): wait for it, or end it with `kill`."
            ) from None
        except OSError as error:
            raise CliError(
                f"{self.root} cannot be used ({error.strerror}): name another directory with "
                "--workspace."
            ) from None
        try:
            self._lock.truncate(0)
            self.note(os.getpid())
            yield
        finally:
            self._lock.close()

    def note(self, process: int) -> None:
        """Write down that this process works here, for whoever finds the place taken."""
        assert self._lock is not None
        print(process, file=self._lock, flush=True)

    @property
    def lock(self) -> int:
        """A descriptor that keeps the place taken, for a process that works here."""
        assert self._lock is not None
        return self._lock.fileno()

    def _holds_something(self) -> bool:
        """Anything but what an earlier call has left that ended before it began."""
        if not self.root.exists():
            return False
        if not self.root.is_dir():
            raise CliError(f"{self.root} is not a directory: name one with --workspace.")
        return any(path.name != LOCAL for path in self.root.iterdir())

    def _write(self, path: Path, document: Json) -> None:
        temporary = path.with_name(path.name + ".tmp")
        try:
            with temporary.open("w", encoding="utf-8") as file:
                json.dump(document, file, indent=2, ensure_ascii=False)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError as error:
            raise CliError(
                f"{path} cannot be written ({error.strerror}): make room, or name another "
                "directory with --workspace; the same command goes on."
            ) from None
