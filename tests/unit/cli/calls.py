"""Calling the plug-in: in this process, or in one of its own where that is what is tested."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from finetune_cli import __main__ as program

ROOT = Path(__file__).parents[3]
SAMPLE = str(ROOT / "manifests" / "samples" / "gemma-math.yaml")
MAIN = "import finetune_cli.__main__ as m; m.main()"


@dataclass(frozen=True)
class Ended:
    """What a command has said, and its exit code."""

    returncode: int
    stdout: str
    stderr: str


def cli(*arguments: str, **env: str) -> Ended:
    """The plug-in, without a cluster, a terminal and colours."""
    return called(lambda: program.run(list(arguments)), **env)


def called(function: Callable[[], int | None], **env: str) -> Ended:
    """A function with streams of its own and an environment that has nothing but this."""
    out, err = _stream(), _stream()
    with (
        pytest.MonkeyPatch.context() as patch,
        Path(os.devnull).open() as nothing,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        for name in os.environ:
            patch.delenv(name)
        for name, value in {"HOME": "/nonexistent", **env}.items():
            patch.setenv(name, value)
        patch.setattr(sys, "stdin", nothing)
        try:
            code = function()
        except SystemExit as ended:
            code = int(ended.code or 0)
    return Ended(int(code or 0), _written(out), _written(err))


def process(*arguments: str, entry: str = MAIN, **env: str) -> subprocess.CompletedProcess[str]:
    """The plug-in in a process of its own, as free of a cluster, a terminal and colours."""
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT / "operator"),
        "HOME": "/nonexistent",
        **env,
    }
    return subprocess.run(
        [sys.executable, "-c", entry, *arguments],
        capture_output=True,
        text=True,
        env=environment,
        stdin=subprocess.DEVNULL,
    )


def _stream() -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)


def _written(stream: io.TextIOWrapper) -> str:
    buffer = stream.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue().decode()
