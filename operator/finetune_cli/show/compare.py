"""Settings and results of several runs, a column for each run."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from finetune_cli import comparison
from finetune_cli.comparison import Row
from finetune_cli.show.screen import columns
from finetune_cli.view import Run
from finetune_cli.words import phase_style


def view(runs: Sequence[Run], *, everything: bool) -> RenderableType:
    """Only settings that differ, unless `everything`; results always."""
    settings = comparison.settings(runs)
    shown = [row for row in settings if everything or row.differs]
    same = len(settings) - len(shown)
    names = [run.name for run in runs]
    if len({run.namespace for run in runs}) > 1:
        names = [f"{run.namespace}/{run.name}" for run in runs]
    parts: list[RenderableType] = [_table("SETTING", names, shown)]
    if same:
        parts.append(Text(f"{same} settings are the same (--all shows them)", style="dim"))
    return Group(*parts, "", _table("RESULT", names, comparison.results(runs)))


def _table(title: str, names: Sequence[str], rows: Sequence[Row]) -> Table:
    fold = {"overflow": "fold"}
    table = columns(title, *((name, fold) for name in names))
    for column in table.columns[1:]:
        column.no_wrap = False
    for row in rows:
        winner = comparison.best(row)
        cells = [
            Text(value, style="bold green" if index == winner else _style(row, value))
            for index, value in enumerate(row.values)
        ]
        table.add_row(Text(row.name, style="dim"), *cells)
    return table


def _style(row: Row, value: str) -> str:
    return phase_style(value) if row.name == "phase" else ""
