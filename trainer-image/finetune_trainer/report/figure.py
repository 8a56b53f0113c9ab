"""Drawings as data: shapes with a role each, and the scales and ticks that place them.

How a role looks belongs to who paints: a stylesheet for the page, a palette for a picture.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Point = tuple[float, float]
Anchor = Literal["start", "middle", "end"]


@dataclass(frozen=True, slots=True)
class Line:
    points: Sequence[Point]
    role: str


@dataclass(frozen=True, slots=True)
class Area:
    """A closed outline, filled."""

    points: Sequence[Point]
    role: str


@dataclass(frozen=True, slots=True)
class Bar:
    """A filled rectangle; `hint` is shown to who points at it."""

    x: float
    y: float
    width: float
    height: float
    role: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Dot:
    x: float
    y: float
    radius: float
    role: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Words:
    """One line of text; `y` is its base line."""

    x: float
    y: float
    text: str
    role: str = "label"
    anchor: Anchor = "start"


Mark = Line | Area | Bar | Dot | Words


@dataclass(frozen=True, slots=True)
class Drawing:
    """Marks on a plane of `width` x `height` pixels, y downwards; `title` tells in words what is to
    be seen.
    """

    width: float
    height: float
    title: str
    marks: Sequence[Mark]


@dataclass(frozen=True, slots=True)
class Scale:
    """Values from `low` to `high` on pixels from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """The pixel of a value, kept within the scale."""
        span = self.high - self.low
        share = (value - self.low) / span if span else 0.5
        return self.start + min(1.0, max(0.0, share)) * (self.end - self.start)


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """At most `most` + 1 round values between `low` and `high`, by steps of 1, 2, 2.5 or 5 times a
    power of ten.
    """
    span = high - low
    if not span > 0 or not math.isfinite(span):
        return [low]
    rough = span / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(
        power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999999
    )
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def tick_label(value: float, step: float) -> str:
    """As many decimals as the step needs; from 100,000 on with k, M, G or T; tiny ones as 2e-5."""
    if value == 0:
        return "0"
    size = max(abs(value), step)
    for factor, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e5, "k")):
        if size >= factor:
            scale = 1e3 if unit == "k" else factor
            return f"{round(value / scale, 3):g}{unit}"
    if size < 1e-3:
        return f"{value:.1e}".replace(".0e", "e").replace("e-0", "e-")
    found = (each for each in range(6) if abs(round(step, each) - step) < 1e-6 * step)
    return f"{value:,.{next(found, 6)}f}"


@dataclass(frozen=True, slots=True)
class Group:
    """What neighbouring points have in common: the mean of steps and values, and their range."""

    step: float
    mean: float
    low: float
    high: float


def grouped(steps: Sequence[float], values: Sequence[float], most: int) -> list[Group]:
    """At most `most` groups of equally many points; each point by itself if they are so few."""
    size = -(-len(steps) // most)
    groups = []
    for first in range(0, len(steps), size or 1):
        part = values[first : first + size]
        where = steps[first : first + size]
        groups.append(
            Group(sum(where) / len(where), math.fsum(part) / len(part), min(part), max(part))
        )
    return groups


def smoothed(values: Sequence[float], reach: int) -> list[float]:
    """The mean of each value and up to `reach` neighbours on either side. At the beginning, where
    values fall fast, as many on both sides as there are; at the end, as many as there are.
    """
    sums = [0.0]
    for value in values:
        sums.append(sums[-1] + value)
    found = []
    for index in range(len(values)):
        first = index - min(reach, index)
        end = min(len(values), 2 * index - first + 1)
        found.append((sums[end] - sums[first]) / (end - first))
    return found


def spread(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """`places` moved as little as needed to be `gap` apart, in the same order, within bounds."""
    order = sorted(range(len(places)), key=lambda index: places[index])
    moved = list(places)
    floor = low
    for index in order:
        moved[index] = max(moved[index], floor)
        floor = moved[index] + gap
    ceiling = high
    for index in reversed(order):
        moved[index] = min(moved[index], ceiling)
        ceiling = moved[index] - gap
    return moved
