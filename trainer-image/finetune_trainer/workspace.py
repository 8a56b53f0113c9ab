"""The workspace's layout, its two ways of writing (what appears is whole), and one of reading.

The paths are the contract's (docs/stage-contract.md). What goes into them belongs to the stages.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Workspace:
    """Paths below one root, `/workspace` in a pod."""

    root: Path

    @classmethod
    def from_environment(cls) -> Workspace:
        return cls(Path(os.environ.get("FINETUNE_WORKSPACE", "/workspace")))

    @property
    def plan_hash(self) -> Path:
        return self.root / "plan-hash"

    @property
    def model(self) -> Path:
        return self.root / "model"

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def prepare(self) -> Path:
        return self.root / "prepare"

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    @property
    def initial(self) -> Path:
        """The first adapter of a run whose adapters begin as a part of the base."""
        return self.checkpoints / "initial"

    @property
    def adapter(self) -> Path:
        return self.root / "adapter"

    @property
    def merged(self) -> Path:
        return self.root / "merged"

    @property
    def history(self) -> Path:
        return self.root / "history.jsonl"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def stages(self) -> Path:
        """When each attempt of each stage began and how it ended."""
        return self.logs / "stages.jsonl"

    @property
    def report(self) -> Path:
        """What a person looks at."""
        return self.root / "report.html"

    def result(self, stage: str) -> Path:
        return self.root / "results" / f"{stage}.json"

    def read_result(self, stage: str) -> dict[str, Any] | None:
        """The stage's `result` object if that stage has succeeded in this workspace, else None."""
        try:
            document = json.loads(self.result(stage).read_bytes())
        except FileNotFoundError:
            return None
        if document.get("outcome") != "Succeeded":
            return None
        return dict(document["result"])


def json_text(value: Any, *, indent: int | None = None) -> str:
    """`value` as JSON, which has no NaN and no infinity.

    A member of an object that is such a number is left out, like every value that is not known; in
    a list, where places count, it becomes null.
    """
    return json.dumps(_finite(value), indent=indent, ensure_ascii=False, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(member) for key, member in value.items() if not _is_unfit(member)}
    if isinstance(value, (list, tuple)):
        return [None if _is_unfit(member) else _finite(member) for member in value]
    return value


def _is_unfit(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write `value` by `write_text`, as `json_text` has it."""
    write_text(path, json_text(value, indent=1))


def write_text(path: Path, text: str) -> None:
    """Write `text` so that a reader sees the old file or the new one, also after a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync(path.parent)


def json_lines(path: Path) -> list[str]:
    """The lines of a file that has one JSON value in each.

    Only a newline ends one: texts have others, such as U+2028, which JSON leaves as they are. A
    character that was being written when a process died becomes another one.
    """
    text = path.read_text(encoding="utf-8", errors="replace")
    return [line for line in text.split("\n") if line]


@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """A fresh `PATH.tmp` to fill; on leaving without an error it is synced and renamed to `path`.

    What stood at `path` is replaced: whoever looks sees the old directory, none for a moment, or
    the new one, and never a part of either. On an error the temporary directory is removed.
    """
    temporary = path.with_name(path.name + ".tmp")
    aside = path.with_name(path.name + ".old.tmp")
    for rest in (temporary, aside):
        shutil.rmtree(rest, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    for written in (*temporary.rglob("*"), temporary):
        sync(written)
    # Removing takes time, and a kill in its midst would leave a part under the complete name.
    if path.exists():
        path.rename(aside)
    temporary.rename(path)
    sync(path.parent)
    shutil.rmtree(aside, ignore_errors=True)


def sync(path: Path) -> None:
    """Bring a file's bytes, or a directory's entries, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
