"""The report as a browser shows it. Pictures are kept under build/report/ for people to judge."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from finetune_trainer.report.page import report_page
from finetune_trainer.report.read import read_facts
from unit.trainer.report.chromium import Page, opened, require_chromium
from unit.trainer.report.runs import hostile_run, long_run
from unit.trainer.train.made import REPOSITORY

PICTURES = REPOSITORY / "build" / "report"
DESK, PHONE = 1100, 390
MEASURES = """({
  overflow: document.documentElement.scrollWidth - innerWidth,
  background: getComputedStyle(document.body).backgroundColor,
  ink: getComputedStyle(document.body).color,
  smallest: Math.min(...[...document.querySelectorAll('body *')]
    .filter(each => each.getClientRects().length && each.matches('svg text'))
    .map(each => 12 * each.getBoundingClientRect().height / each.getBBox().height)),
  outside: [...document.querySelectorAll('svg text')]
    .filter(each => each.getClientRects().length)
    .filter(each => each.getBoundingClientRect().left < -1
      || each.getBoundingClientRect().right > innerWidth + 1).map(each => each.textContent),
  images: document.images.length + document.scripts.length,
})"""
WHOLE = """[...document.querySelectorAll('figure, tr, .figures')]
  .filter(each => each.getClientRects().length)
  .filter(each => getComputedStyle(each).breakInside !== 'avoid').length"""


@dataclass
class Seen:
    """What was found of one page, by screen."""

    screens: dict[str, dict[str, Any]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    breakable: int = 0
    pdf: bytes = b""


async def _look(page: Page, name: str) -> Seen:
    seen = Seen(errors=page.errors, requests=page.requests)
    for screen, width, dark in (
        ("light", DESK, False),
        ("dark", DESK, True),
        ("phone", PHONE, False),
        ("phone-dark", PHONE, True),
    ):
        await page.look(width=width, dark=dark)
        seen.screens[screen] = await page.ask(MEASURES)
        await page.picture(PICTURES / f"{name}-{screen}.png")
    await page.look(width=DESK, dark=True, media="print")
    seen.screens["print"] = await page.ask(MEASURES)
    seen.breakable = await page.ask(WHOLE)
    file = PICTURES / f"{name}.pdf"
    await page.print_to(file)
    seen.pdf = file.read_bytes()
    return seen


async def _seen(files: dict[str, Path], profiles: Path) -> dict[str, Seen]:
    found = {}
    for name, file in files.items():
        async with opened(file, profiles / name) as page:
            found[name] = await _look(page, name)
    return found


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Seen]:
    """A long run's report and a hostile one's."""
    require_chromium()
    PICTURES.mkdir(parents=True, exist_ok=True)
    folder = tmp_path_factory.mktemp("browser")
    files = {}
    for name, make in (("report", long_run), ("hostile", hostile_run)):
        run, workspace = make(folder / name)
        files[name] = PICTURES / f"{name}.html"
        files[name].write_text(report_page(read_facts(run, workspace, public=False)))
    return asyncio.run(_seen(files, folder))


@pytest.fixture(params=["report", "hostile"])
def each(request: pytest.FixtureRequest, seen: dict[str, Seen]) -> Seen:
    return seen[request.param]


def test_nothing_is_asked_for_but_the_page_itself(each: Seen) -> None:
    asked = [url for url in each.requests if not url.startswith("data:")]
    assert [Path(url).name for url in asked] in (["report.html"], ["hostile.html"])


def test_the_console_has_nothing_to_say_and_nothing_ran(each: Seen) -> None:
    assert each.errors == []
    assert all(screen["images"] == 0 for screen in each.screens.values())


def test_no_screen_scrolls_sideways(each: Seen) -> None:
    assert {name: screen["overflow"] for name, screen in each.screens.items()} == dict.fromkeys(
        each.screens, 0
    )


def test_words_in_charts_are_legible_and_within_the_screen(each: Seen) -> None:
    for screen in each.screens.values():
        assert screen["smallest"] > 9.5  # CSS pixels
        assert screen["outside"] == []


def test_who_likes_it_dark_gets_it_dark_and_paper_stays_white(each: Seen) -> None:
    background = {name: screen["background"] for name, screen in each.screens.items()}
    ink = {name: screen["ink"] for name, screen in each.screens.items()}
    assert background["light"] == background["phone"] == background["print"]
    assert background["light"] == "rgb(255, 255, 255)"
    assert background["dark"] == background["phone-dark"] != background["light"]
    assert _brightness(background["dark"]) < 40 < 200 < _brightness(ink["dark"])
    assert _brightness(ink["print"]) < 40


def test_printed_it_is_a_few_pages_and_cuts_no_chart(each: Seen) -> None:
    pages = len(re.findall(rb"/Type\s*/Page\b(?!s)", each.pdf))
    assert each.pdf.startswith(b"%PDF")
    assert 3 <= pages <= 20
    assert each.breakable == 0


def _brightness(colour: str) -> float:
    return max(float(part) for part in re.findall(r"[\d.]+", colour)[:3])
