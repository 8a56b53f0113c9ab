"""The report's charts: from values to drawings. Nothing is known here of files or of HTML.

Long curves are drawn in at most `MOST_POINTS` groups of equally many logged steps: the line is each
group's mean, the band behind it its range, so that no spike is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from finetune_trainer.report.facts import Curve, Histogram, Resumption
from finetune_trainer.report.figure import (
    Area,
    Bar,
    Dot,
    Drawing,
    Line,
    Mark,
    Scale,
    Words,
    grouped,
    smoothed,
    spread,
    tick_label,
    ticks,
)
from finetune_trainer.report.words import count, significant

MOST_POINTS = 300
# Fewer points are shown as they are; a mean over a few neighbours would hide them.
SMOOTH_FROM = 40

CHARACTER = 7.6  # pixels of a label's character
TOP, BOTTOM = 14.0, 24.0
LABEL_GAP = 31.0


@dataclass(frozen=True, slots=True)
class Series:
    """A curve with the name and the role that it is drawn in. `dotted` ones are measured now and
    then: each point is a dot. `steady` ones are not smoothed.
    """

    name: str
    role: str
    curve: Curve
    dotted: bool = False
    steady: bool = False


@dataclass(frozen=True, slots=True)
class _Drawn:
    series: Series
    steps: list[float]
    values: list[float]
    line: list[float]
    low: list[float]
    high: list[float]
    is_grouped: bool


def curves(
    series: Sequence[Series],
    *,
    width: float,
    height: float,
    title: str,
    resumptions: Sequence[Resumption] = (),
    from_zero: bool = False,
    named: bool = True,
    value: Callable[[float], str] = significant,
    best_step: float | None = None,
) -> Drawing | None:
    """Curves over optimizer steps, each labelled at its end; None if there is no point.

    Args:
        named: whether labels have the series' names beside the last values, which `value` words.
        best_step: the step whose dot is marked.
    """
    drawn = [_prepare(each) for each in series if len(each.curve)]
    if not drawn:
        return None
    lowest = 0.0 if from_zero else min(min(each.low) for each in drawn)
    highest = max(max(each.high) for each in drawn)
    if highest <= lowest:
        highest, lowest = highest + (abs(highest) or 1) * 0.1, lowest - (0 if from_zero else 0.1)
    marked = ticks(lowest, highest, 4 if height < 220 else 5)
    step = marked[1] - marked[0] if len(marked) > 1 else highest - lowest
    labels = [tick_label(each, step) for each in marked]
    # Small ones stand beside each other: their axes are to be in line.
    left = max(max(len(label) for label in labels) * CHARACTER + 10, 0 if named else 50)
    ends = [value(each.series.curve.values[-1]) for each in drawn]
    widest = max(
        len(text)
        for each, end in zip(drawn, ends, strict=True)
        for text in (end, each.series.name if named else "")
    )
    right = max(widest * CHARACTER + 14, 0 if named else 56)
    pad = (highest - lowest) * 0.04
    across = Scale(
        min(0.0, min(each.steps[0] for each in drawn)),
        max(each.steps[-1] for each in drawn) or 1.0,
        left,
        width - right,
    )
    up = Scale(lowest - (0 if from_zero else pad), highest + pad, height - BOTTOM, TOP)
    marks: list[Mark] = []
    for each, label in zip(marked, labels, strict=True):
        y = up(each)
        marks.append(Line([(left, y), (width - right, y)], "grid"))
        marks.append(Words(left - 8, y + 4, label, "label", "end"))
    marks += _step_axis(across, height)
    marks += _resumed(resumptions, across, height, named=named)
    for part in drawn:
        marks += _curve(part, across, up, best_step)
    places = [up(each.line[-1]) for each in drawn]
    gap = LABEL_GAP if named else 16.0
    spots = spread(places, gap, TOP, height - BOTTOM - (14 if named else 0))
    for part, spot, end in zip(drawn, spots, ends, strict=True):
        x = width - right + 9
        if named:
            marks.append(Words(x, spot, part.series.name, f"name {part.series.role}"))
        marks.append(Words(x, spot + (14 if named else 4), end, "value"))
    return Drawing(width, height, title, marks)


def _prepare(series: Series) -> _Drawn:
    curve = series.curve
    groups = grouped(curve.steps, curve.values, MOST_POINTS)
    values = [group.mean for group in groups]
    calm = series.dotted or series.steady or len(values) < SMOOTH_FROM
    return _Drawn(
        series=series,
        steps=[group.step for group in groups],
        values=values,
        line=values if calm else smoothed(values, max(2, len(values) // 40)),
        low=[group.low for group in groups],
        high=[group.high for group in groups],
        is_grouped=len(groups) < len(curve),
    )


def _curve(part: _Drawn, across: Scale, up: Scale, best_step: float | None) -> list[Mark]:
    role = part.series.role
    x = [across(step) for step in part.steps]
    marks: list[Mark] = []
    if part.is_grouped and not part.series.steady:
        over = [(at, up(high)) for at, high in zip(x, part.high, strict=True)]
        under = [(at, up(low)) for at, low in zip(x, part.low, strict=True)]
        marks.append(Area([*over, *reversed(under)], f"range {role}"))
    elif part.line is not part.values:
        raw = [(at, up(each)) for at, each in zip(x, part.values, strict=True)]
        marks.append(Line(raw, f"raw {role}"))
    line = [(at, up(each)) for at, each in zip(x, part.line, strict=True)]
    marks.append(Line(line, f"curve {role}"))
    if len(line) == 1 or (part.series.dotted and len(line) <= 60):
        for (at, y), step, each in zip(line, part.steps, part.values, strict=True):
            hint = f"step {step:,.0f}: {significant(each)}"
            marks.append(Dot(at, y, 3.2, f"dot {role}", hint))
            if best_step is not None and step == best_step:
                marks.append(Dot(at, y, 6.5, f"ring {role}", f"kept: {hint}"))
    return marks


def _step_axis(across: Scale, height: float) -> list[Mark]:
    span = across.end - across.start
    found = [
        each
        for each in ticks(across.low, across.high, max(2, min(6, int(span // 55))))
        if each == int(each)
    ] or [across.high]
    y = height - BOTTOM
    marks: list[Mark] = [Line([(across.start, y), (across.end, y)], "axis")]
    gap = found[1] - found[0] if len(found) > 1 else found[0]
    for each in found:
        x = across(each)
        marks.append(Line([(x, y), (x, y + 4)], "axis"))
        label = tick_label(each, gap)
        if each == found[-1]:
            label += " steps" if each != 1 else " step"
        marks.append(Words(x, y + 17, label, "label", "middle"))
    return marks


def _resumed(
    resumptions: Sequence[Resumption], across: Scale, height: float, *, named: bool
) -> list[Mark]:
    marks: list[Mark] = []
    free = across.start - 1
    for each in sorted(resumptions, key=lambda found: found.step):
        x = across(each.step)
        marks.append(Line([(x, TOP - 4), (x, height - BOTTOM)], "resumed"))
        text = f"attempt {each.attempt}"
        room = len(text) * CHARACTER
        if named and x >= free and x + room < across.end + 40:
            marks.append(Words(x + 4, TOP + 4, text, "note"))
            free = x + room + 8
    return marks


def histogram(
    found: Histogram,
    *,
    width: float,
    height: float,
    title: str,
    unit: str,
    share: bool = False,
    middle: float | None = None,
) -> Drawing:
    """Counts as bars over their values; `share` words these as percentages, `middle` is marked as
    the median.
    """
    most = max(found.counts)
    marked = [each for each in ticks(0, most, 3) if each == int(each)]
    gap = marked[1] - marked[0] if len(marked) > 1 else most
    labels = [tick_label(each, gap) for each in marked]
    left = max(len(label) for label in labels) * CHARACTER + 10
    across = Scale(found.edges[0], found.edges[-1], left, width - 14)
    up = Scale(0, most * 1.04, height - BOTTOM, TOP)
    marks: list[Mark] = []
    for each, label in zip(marked, labels, strict=True):
        marks.append(Line([(left, up(each)), (width - 14, up(each))], "grid"))
        marks.append(Words(left - 8, up(each) + 4, label, "label", "end"))

    def worded(each: float) -> str:
        return f"{each:.0%}" if share else f"{each:,.0f}"

    for index, each in enumerate(found.counts):
        x, end = across(found.edges[index]), across(found.edges[index + 1])
        if each:
            hint = (
                f"{worded(found.edges[index])} to {worded(found.edges[index + 1])}: {count(each)}"
            )
            top = min(up(each), up(0) - 1)
            marks.append(Bar(x + 0.5, top, max(0.8, end - x - 1), up(0) - top, "bar", hint))
    y = height - BOTTOM
    marks.append(Line([(left, y), (width - 14, y)], "axis"))
    places = ticks(found.edges[0], found.edges[-1], 4)
    for each in places:
        text = worded(each) if share else tick_label(each, places[-1] / 4 or 1)
        last = each == places[-1]
        label = f"{text} {unit}".strip() if last else text
        end = across(each) + len(label) * CHARACTER / 2 > width
        marks.append(Line([(across(each), y), (across(each), y + 4)], "axis"))
        x = min(across(each), width) if not end else width
        marks.append(Words(x, y + 17, label, "label", "end" if end else "middle"))
    if middle is not None and found.edges[0] <= middle <= found.edges[-1]:
        x = across(middle)
        marks.append(Line([(x, TOP - 4), (x, y)], "resumed"))
        right = x + 80 < width
        marks.append(
            Words(
                x + 4 if right else x - 4,
                TOP + 4,
                f"median {worded(middle)}",
                "note",
                "start" if right else "end",
            )
        )
    return Drawing(width, height, title, marks)
