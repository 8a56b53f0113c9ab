"""What a run has left on this machine, and how to look at it."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table
from rich.text import Text

from finetune_operator.api.status import Artifacts, Status


def made(status: Status, root: Path, report: Path, log: Path | None = None) -> Table:
    """Paths, one a line: adapter, merged model, what was published, `log`, the report."""
    found = status.artifacts or Artifacts()
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, style="dim")
    table.add_column(overflow="fold")
    for name, path in (("adapter", found.adapter), ("merged", found.merged)):
        if path:
            table.add_row(name, Text(str(root / path)))
    if found.url:
        table.add_row("published", Text(f"{found.url}  {(found.commit or '')[:8]}".rstrip()))
    if log is not None:
        table.add_row("log", Text(str(log)))
    if report.exists():
        table.add_row("report", Text(f"{report}: {_hint(found, root)}"))
    return table


def _hint(found: Artifacts, root: Path) -> str:
    if found.url:
        return "open it in a browser; it shows how to load the model"
    if found.adapter or found.merged:
        return f"open it in a browser; it shows how to load the model, from {root}"
    return "open it in a browser"
