"""Many runs, one line each."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from rich.table import Table
from rich.text import Text

from finetune_cli.show.screen import columns
from finetune_cli.view import Run, dig
from finetune_cli.words import between, number, phase_style, span


def table(runs: Sequence[Run], now: datetime, *, wide: bool, namespaces: bool) -> Table:
    """The table of `list`; `wide` adds model, method, attempts and the message."""
    headers = ["NAMESPACE"] if namespaces else []
    headers += ["NAME", "PHASE", "PROGRESS", "STEP", "LOSS", "ETA", "GPUS", "AGE"]
    headers += ["MODEL", "METHOD", "ATTEMPTS", "MESSAGE"] if wide else []
    cut = {"overflow": "ellipsis"}
    found = columns(*((name, cut) for name in headers))
    for run in runs:
        found.add_row(*_cells(run, now, wide=wide, namespaces=namespaces))
    return found


def _cells(run: Run, now: datetime, *, wide: bool, namespaces: bool) -> list[str | Text]:
    cells: list[str | Text] = [run.namespace] if namespaces else []
    eta = None if run.is_over else dig(run.status, "progress.etaSeconds")
    cells += [
        run.name,
        Text(run.phase + (" !" if run.waits else ""), style=phase_style(run.phase)),
        str(dig(run.status, "progress.display.percent", "-")),
        str(dig(run.status, "progress.display.step", "-")),
        number(run.metrics.get("loss")),
        span(eta),
        str(run.gpus),
        between(run.created, now),
    ]
    if wide:
        failed = len(run.status.get("attempts", []))
        cells += [run.model, run.method, f"{failed} failed" if failed else "-", run.message]
    return cells
