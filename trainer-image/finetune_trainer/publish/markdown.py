"""Text that comes from a user, made safe to stand in Markdown that a browser will show."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence


def plain(text: object) -> str:
    """`text` on one line, shown as it is: neither Markdown nor HTML in it takes effect."""
    line = html.escape(" ".join(str(text).split()), quote=False)
    return re.sub(r"([\\`*_{}\[\]()#+!|~:])", r"\\\1", line)


def code(text: object) -> str:
    """`text` on one line as a code span, also right within a table."""
    line = " ".join(str(text).split())
    longest = max((len(run) for run in re.findall(r"`+", line)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if longest else ""
    # Tables end a cell at a bar even within a code span.
    return f"{fence}{pad}{line}{pad}{fence}".replace("|", r"\|")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; its cells are Markdown already."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def code_block(language: str, text: str) -> str:
    """A fenced block that `text` cannot close."""
    longest = max((len(run) for run in re.findall(r"`{3,}", text)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}{language}\n{text.strip()}\n{fence}"
