"""The loss curve in characters: braille dots on a terminal that has them, asterisks elsewhere.

Drawn here and not by a library: plotext 6 takes 0.4 s to import, longer than all the rest.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from rich.text import Text

from finetune_cli.history import History

HEIGHT = 9
LEAST_WIDTH = 40
LOSS, VALIDATION = "cyan", "bold magenta"
# Which bit of a braille character is the dot at (column, row) of its two columns of four.
_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))


def curve(history: History, width: int, *, ascii_only: bool, height: int = HEIGHT) -> Text | None:
    """Loss over steps as a line, validation loss as points; None where there is nothing to draw."""
    if history.is_empty or width < LEAST_WIDTH:
        return None
    frame = _Frame(history, width, height)
    inside = _ascii(history, frame) if ascii_only else _braille(history, frame)
    text = Text(no_wrap=True, end="")
    bar = "|" if ascii_only else "│"
    for row in range(height):
        text.append(frame.label(row).rjust(frame.margin), "dim")
        text.append(bar, "dim")
        for style, cells in itertools.groupby(inside[row], key=lambda cell: cell[1]):
            text.append("".join(character for character, _ in cells), style)
        text.append("\n")
    text.append(frame.foot(ascii_only=ascii_only), "dim")
    if history.validation:
        text.append("\n" + " " * (frame.margin + 1))
        text.append("-" if ascii_only else "⠤", LOSS)
        text.append(" loss   ", "dim")
        text.append("o" if ascii_only else "●", VALIDATION)
        text.append(" validation loss", "dim")
    return text


class _Frame:
    """What a character stands for: steps from left to right, losses from bottom to top."""

    def __init__(self, history: History, width: int, height: int) -> None:
        values = [*history.loss.values(), *history.validation.values()]
        steps = [*history.loss, *history.validation]
        self.low, self.high = min(values), max(values)
        self.first, self.last = min(steps), max(steps)
        self.height = height
        self.margin = max(len(_short(value)) for value in (self.low, self.high)) + 1
        self.width = width - self.margin - 1

    def column(self, step: int, columns: int) -> int:
        return round((step - self.first) / max(1, self.last - self.first) * (columns - 1))

    def row(self, value: float, rows: int) -> int:
        span = self.high - self.low
        return round((self.high - value) / span * (rows - 1)) if span else rows // 2

    def label(self, row: int) -> str:
        middle = self.height // 2
        if row not in ((0, middle, self.height - 1) if self.high > self.low else (middle,)):
            return ""
        value = self.high - (self.high - self.low) * row / (self.height - 1)
        return _short(value) + " "

    def foot(self, *, ascii_only: bool) -> str:
        corner, line = ("+", "-") if ascii_only else ("└", "─")
        left, right = f"step {self.first}", str(self.last)
        gap = max(1, self.width - len(left) - len(right))
        axis = " " * self.margin + corner + line * self.width
        return f"{axis}\n{' ' * (self.margin + 1)}{left}{' ' * gap}{right}"


def _braille(history: History, frame: _Frame) -> list[list[tuple[str, str]]]:
    columns, rows = frame.width * 2, frame.height * 4
    bits = [[0] * frame.width for _ in range(frame.height)]
    for column, start, end in _line(history.loss, frame, columns, rows):
        for row in range(min(start, end), max(start, end) + 1):
            bits[row // 4][column // 2] |= _DOTS[column % 2][row % 4]
    cells = [[(chr(0x2800 + bit) if bit else " ", LOSS) for bit in line] for line in bits]
    return _with_validation(cells, history, frame, "●")


def _ascii(history: History, frame: _Frame) -> list[list[tuple[str, str]]]:
    cells = [[(" ", LOSS)] * frame.width for _ in range(frame.height)]
    for column, _, row in _line(history.loss, frame, frame.width, frame.height):
        cells[row][column] = ("*", LOSS)
    return _with_validation(cells, history, frame, "o")


def _with_validation(
    cells: list[list[tuple[str, str]]], history: History, frame: _Frame, mark: str
) -> list[list[tuple[str, str]]]:
    for step, value in history.validation.items():
        row, column = frame.row(value, frame.height), frame.column(step, frame.width)
        cells[row][column] = (mark, VALIDATION)
    return cells


def _line(
    points: Mapping[int, float], frame: _Frame, columns: int, rows: int
) -> list[tuple[int, int, int]]:
    """Column by column from where to where the line goes; several steps in one are averaged."""
    steps = sorted(points)
    means: dict[int, list[float]] = {}
    for step in steps:
        means.setdefault(frame.column(step, columns), []).append(points[step])
    known = [(x, frame.row(sum(v) / len(v), rows)) for x, v in sorted(means.items())]
    drawn = [(known[0][0], known[0][1], known[0][1])]
    for (left, start), (right, end) in itertools.pairwise(known):
        before = start
        for x in range(left + 1, right + 1):
            y = round(start + (end - start) * (x - left) / (right - left))
            drawn.append((x, before, y))
            before = y
    return drawn


def _short(value: float) -> str:
    return f"{value:.3g}"
