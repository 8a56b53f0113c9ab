"""Where things are printed: colours and width on a terminal, plain text everywhere else."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console, RenderableType
from rich.table import Table

# Lines of a file or a pipe are not cut.
PLAIN_WIDTH = 500


def console(*, stderr: bool = False) -> Console:
    """The console of this process. rich itself honours NO_COLOR and TERM=dumb."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else PLAIN_WIDTH
    return Console(
        file=stream, width=width, highlight=False, emoji=False, markup=False, soft_wrap=False
    )


def columns(*headers: str | tuple[str, dict[str, Any]]) -> Table:
    """A table as kubectl prints it: no lines, headers in capitals, columns three spaces apart."""
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim", expand=False)
    for header in headers:
        name, options = (header, {}) if isinstance(header, str) else header
        table.add_column(name, no_wrap=True, **options)
    return table


def show(renderable: RenderableType) -> None:
    """Print it; without a terminal no line ends in spaces."""
    screen = console()
    if screen.is_terminal:
        screen.print(renderable)
        return
    with screen.capture() as captured:
        screen.print(renderable)
    lines = captured.get().splitlines()
    sys.stdout.write("".join(line.rstrip() + "\n" for line in lines))
