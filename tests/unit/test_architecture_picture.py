"""The picture of the architecture as a browser shows it; copies are kept in build/architecture/."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from unit.trainer.report.chromium import opened, require_chromium

ROOT = Path(__file__).resolve().parents[2]
PICTURE = ROOT / "docs" / "architecture.svg"
COPIES = ROOT / "build" / "architecture"
# A text belongs to the innermost rectangle that it begins in.
OUTSIDE = """(() => {
  const boxes = [...document.querySelectorAll('rect')].map(each => each.getBoundingClientRect());
  const area = box => box.width * box.height;
  return [...document.querySelectorAll('text')].filter(each => {
    const text = each.getBoundingClientRect(), y = (text.top + text.bottom) / 2;
    const around = boxes.filter(box => box.left <= text.left && text.left <= box.right
      && box.top <= y && y <= box.bottom).sort((a, b) => area(a) - area(b))[0];
    return !around || text.right > around.right - 4 || text.bottom > around.bottom;
  }).map(each => each.textContent);
})()"""
COLOURS = """Object.fromEntries(["ground", "frame", "name", "text", "label"].map(name =>
  [name, getComputedStyle(document.querySelector("." + name)).fill]))"""
READABLE = 4.5  # WCAG 2, contrast of text


async def _look(profile: Path) -> dict[str, dict[str, Any]]:
    seen = {}
    async with opened(PICTURE, profile) as page:
        for name, dark in (("light", False), ("dark", True)):
            await page.look(width=1000, height=620, dark=dark)
            seen[name] = {"outside": await page.ask(OUTSIDE), "fills": await page.ask(COLOURS)}
            await page.picture(COPIES / f"{name}.png")
        assert page.errors == []
        assert [Path(url).name for url in page.requests] == [PICTURE.name]
    return seen


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    require_chromium()
    COPIES.mkdir(parents=True, exist_ok=True)
    return asyncio.run(_look(tmp_path_factory.mktemp("browser")))


def test_its_words_stay_inside_their_boxes(seen: dict[str, dict[str, Any]]) -> None:
    assert {name: each["outside"] for name, each in seen.items()} == {"light": [], "dark": []}


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("words", ["name", "text", "label"])
@pytest.mark.parametrize("behind", ["ground", "frame"])
def test_its_words_are_readable_in_both_themes(
    seen: dict[str, dict[str, Any]], theme: str, words: str, behind: str
) -> None:
    fills = seen[theme]["fills"]
    lighter, darker = sorted((_luminance(fills[words]), _luminance(fills[behind])), reverse=True)
    assert (lighter + 0.05) / (darker + 0.05) >= READABLE


def test_who_likes_it_dark_gets_it_dark(seen: dict[str, dict[str, Any]]) -> None:
    light, dark = (_luminance(seen[theme]["fills"]["ground"]) for theme in ("light", "dark"))
    assert dark < 0.05 < 0.9 < light


def _luminance(colour: str) -> float:
    """Relative luminance as WCAG 2 defines it, 0 to 1, of `rgb(r, g, b)`."""
    parts = [float(part) / 255 for part in re.findall(r"[\d.]+", colour)[:3]]
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return sum(share * part for share, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
