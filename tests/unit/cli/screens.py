"""What a renderable looks like, as text."""

from __future__ import annotations

import io

from rich.console import Console, RenderableType


def text_of(renderable: RenderableType, width: int = 80, *, encoding: str = "utf-8") -> str:
    """The characters that a terminal of this width and encoding shows, without colours."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="replace")
    console = Console(file=stream, width=width, no_color=True, highlight=False, emoji=False)
    console.print(renderable)
    stream.flush()
    stream.seek(0)
    return "\n".join(line.rstrip() for line in stream.read().splitlines())
