"""A drawing as a picture on white, for where a page shows no SVG of its own.

The same bytes for the same drawing. A card in the dark shows it as it is, light.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from finetune_trainer.report.figure import Area, Bar, Dot, Drawing, Line, Mark, Point, Words

# Pixels of the picture for one of the drawing: screens are fine today. It is drawn larger still and
# made smaller, which rounds the steps of slanted lines.
DENSITY, FINER = 2, 2
_PAPER, _INK, _SOFT, _RULE = (255, 255, 255), (23, 24, 28), (95, 99, 109), (227, 228, 232)
_COLOURS = {"train": (36, 86, 200), "valid": (192, 82, 6), "plain": _INK}
_STROKES = {"grid": (_RULE, 1.0), "axis": (_SOFT, 1.0), "resumed": (_SOFT, 1.0)}
_FAINT = {"raw": 0.32, "range": 0.18}
_DASH = 4.0

Colour = tuple[int, int, int]


def png(drawing: Drawing) -> bytes:
    """The file's content."""
    scale = DENSITY * FINER
    size = (round(drawing.width * scale), round(drawing.height * scale))
    image = Image.new("RGB", size, _PAPER)
    brush = _Brush(ImageDraw.Draw(image), scale)
    for mark in drawing.marks:
        brush.paint(mark)
    smaller = image.resize((size[0] // FINER, size[1] // FINER), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    smaller.quantize(64).save(file, "PNG", optimize=True)
    return file.getvalue()


class _Brush:
    def __init__(self, draw: ImageDraw.ImageDraw, scale: float) -> None:
        self._draw, self._scale = draw, scale

    def paint(self, mark: Mark) -> None:
        match mark:
            case Line(points, role):
                self._line(points, role)
            case Area(points, role):
                self._draw.polygon(self._placed(points), fill=_colour(role))
            case Bar(x, y, width, height, role):
                corners = self._placed([(x, y), (x + width, y + height)])
                self._draw.rectangle(corners, fill=_colour(role))
            case Dot(x, y, radius, role):
                self._dot((x, y), radius, role)
            case Words(x, y, text, role, anchor):
                self._draw.text(
                    self._placed([(x, y)])[0],
                    text,
                    fill=_SOFT if role in ("label", "note") else _colour(role),
                    font=ImageFont.load_default((11 if role == "note" else 12) * self._scale),
                    anchor={"start": "ls", "middle": "ms", "end": "rs"}[anchor],
                )

    def _line(self, points: Sequence[Point], role: str) -> None:
        colour, width = _STROKES.get(role, (_colour(role), 1.0 if "raw" in role else 2.0))
        thick = round(width * self._scale)
        if role != "resumed":
            self._draw.line(self._placed(points), fill=colour, width=thick, joint="curve")
            return
        (x, top), (_, bottom) = points
        y = top
        while y < bottom:
            part = self._placed([(x, y), (x, min(y + _DASH, bottom))])
            self._draw.line(part, fill=colour, width=thick)
            y += 2 * _DASH

    def _dot(self, centre: Point, radius: float, role: str) -> None:
        (x, y), reach = self._placed([centre])[0], radius * self._scale
        box = (x - reach, y - reach, x + reach, y + reach)
        if role.startswith("ring"):
            self._draw.ellipse(box, outline=_colour(role), width=round(1.5 * self._scale))
        else:
            self._draw.ellipse(box, fill=_colour(role))

    def _placed(self, points: Sequence[Point]) -> list[Point]:
        return [(x * self._scale, y * self._scale) for x, y in points]


def _colour(role: str) -> Colour:
    kinds = role.split()
    colour = next((_COLOURS[kind] for kind in kinds if kind in _COLOURS), _INK)
    share = next((_FAINT[kind] for kind in kinds if kind in _FAINT), 1.0)
    red, green, blue = (
        round(share * one + (1 - share) * other) for one, other in zip(colour, _PAPER, strict=True)
    )
    return red, green, blue
