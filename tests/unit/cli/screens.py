"""What a renderable looks like, as text."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
from collections.abc import Sequence

from rich.console import Console, RenderableType


def text_of(renderable: RenderableType, width: int = 80, *, encoding: str = "utf-8") -> str:
    """The characters that a terminal of this width and encoding shows, without colours."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="replace")
    console = Console(file=stream, width=width, no_color=True, highlight=False, emoji=False)
    console.print(renderable)
    stream.flush()
    stream.seek(0)
    return "\n".join(line.rstrip() for line in stream.read().splitlines())


def terminal(code: str, **env: str) -> str:
    """What a process with this code writes to a terminal of 256 colours."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=theirs,
        stdout=theirs,
        env={**_environment(), "TERM": "xterm-256color", **env},
    )
    os.close(theirs)
    written = b""
    try:
        while piece := os.read(ours, 65536):
            written += piece
    except OSError:
        pass  # how Linux tells that nobody has the other end any more
    os.close(ours)
    assert process.wait() == 0
    return written.decode()


def answered(code: str, answers: Sequence[str], **env: str) -> str:
    """What a process shows that asks on a terminal, each answer given to a question of its own."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**_environment(), "TERM": "dumb", **env},
    )
    os.close(theirs)
    waiting, written = list(answers), b""
    try:
        while piece := os.read(ours, 65536):
            written += piece
            if waiting and written.endswith(b": "):
                os.write(ours, waiting.pop(0).encode() + b"\n")
    except OSError:
        pass  # how Linux tells that nobody has the other end any more
    os.close(ours)
    assert process.wait() == 0, written.decode()
    assert waiting == []
    return written.decode()


def piped(code: str, **env: str) -> str:
    """What it writes where there is no terminal."""
    command = [sys.executable, "-c", code]
    environment = {**_environment(), "TERM": "xterm-256color", **env}
    return subprocess.run(
        command, capture_output=True, text=True, check=True, env=environment
    ).stdout


def _environment() -> dict[str, str]:
    paths = os.pathsep.join(path for path in sys.path if path)
    return {"PATH": os.environ["PATH"], "PYTHONPATH": paths, "PYTHONIOENCODING": "utf-8"}
