"""Where things are printed: colours and width on a terminal, plain text everywhere else.

What is printed comes from runs and their logs: whatever is in it, a terminal only shows it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table

from finetune_cli.harmless import harmless

# Lines of a file or a pipe are not cut.
PLAIN_WIDTH = 500


class _Screen(Console):
    """rich lets escape sequences in a text pass, and links in a log's colours lead anywhere."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """As rich does it; only its own commands are commands."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else _plain(segment)


def _plain(segment: Segment) -> Segment:
    style = segment.style
    if style is not None and style.link:
        style = style.update_link(None)
    return Segment(harmless(segment.text), style)


def console(*, stderr: bool = False) -> Console:
    """The console of this process. rich itself honours NO_COLOR and TERM=dumb."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else PLAIN_WIDTH
    return _Screen(
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
