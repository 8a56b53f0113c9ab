"""A drawing as an SVG element; its roles become classes, which the page's stylesheet knows."""

from __future__ import annotations

from markupsafe import Markup, escape

from finetune_trainer.report.figure import Area, Bar, Dot, Drawing, Line, Mark, Words
from finetune_trainer.report.words import shown

MOST_TEXT = 200


def svg(drawing: Drawing, kind: str = "") -> Markup:
    """The element, with `kind` as a class of its own."""
    body = Markup("").join(map(_mark, drawing.marks))
    return Markup('<svg class="{}" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        kind, _number(drawing.width), _number(drawing.height), shown(drawing.title, MOST_TEXT), body
    )


def _mark(mark: Mark) -> Markup:
    match mark:
        case Line(points, role):
            return Markup('<polyline class="{}" points="{}"/>').format(role, _points(points))
        case Area(points, role):
            return Markup('<polygon class="{}" points="{}"/>').format(role, _points(points))
        case Bar(x, y, width, height, role, hint):
            return Markup('<rect class="{}" x="{}" y="{}" width="{}" height="{}">{}</rect>').format(
                role, *map(_number, (x, y, width, height)), _hint(hint)
            )
        case Dot(x, y, radius, role, hint):
            return Markup('<circle class="{}" cx="{}" cy="{}" r="{}">{}</circle>').format(
                role, *map(_number, (x, y, radius)), _hint(hint)
            )
        case Words(x, y, text, role, anchor):
            return Markup('<text class="{}" x="{}" y="{}" text-anchor="{}">{}</text>').format(
                role, _number(x), _number(y), anchor, shown(text, MOST_TEXT)
            )


def _hint(text: str) -> Markup:
    return Markup("<title>{}</title>").format(shown(text, MOST_TEXT)) if text else escape("")


def _points(points: object) -> str:
    assert isinstance(points, list | tuple)
    return " ".join(f"{_number(x)},{_number(y)}" for x, y in points)


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
