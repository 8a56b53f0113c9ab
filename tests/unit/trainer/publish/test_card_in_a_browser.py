"""The model card as a Hub shows it: its Markdown as a page, the curve in it. Pictures are kept
beside the report's, under build/report/, for people to judge.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from finetune_trainer.publish.card import model_card
from finetune_trainer.report import beside_model
from unit.trainer.publish.test_card import facts, rendered
from unit.trainer.report.chromium import Page, opened, require_chromium
from unit.trainer.report.runs import long_run
from unit.trainer.train.made import REPOSITORY

PICTURES = REPOSITORY / "build" / "report"
# As the Hub lays a card out: a column, in which tables and code scroll by themselves.
LAYOUT = """<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<style>
body { font: 16px/1.6 system-ui, sans-serif; max-width: 820px; margin: 24px auto; padding: 0 16px }
img { max-width: 100% } table { display: block; overflow-x: auto; border-collapse: collapse }
td, th { border: 1px solid #ddd; padding: 4px 10px; text-align: left }
pre { overflow-x: auto; background: #f6f6f8; padding: 12px } code { overflow-wrap: anywhere }
pre code { overflow-wrap: normal }
</style><body>"""
MEASURES = """({
  overflow: document.documentElement.scrollWidth - innerWidth,
  pictures: [...document.images].map(each => [each.getAttribute('src'), each.naturalWidth]),
  headings: [...document.querySelectorAll('h1, h2')].map(each => each.textContent),
  tables: [...document.querySelectorAll('table')].map(each => each.rows.length),
  nameless: [...document.querySelectorAll('table')]
    .filter(each => !each.rows[0].textContent.trim()).length,
  raw: [...document.querySelectorAll('p, li, td')].map(each => each.textContent)
    .filter(text => /\\*\\*|\\]\\(|^\\|/.test(text)),
})"""


@dataclass
class Seen:
    """What was found of the card, by screen."""

    screens: dict[str, dict[str, Any]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


async def _look(page: Page) -> Seen:
    seen = Seen(errors=page.errors, requests=page.requests)
    for screen, width in (("desk", 1100), ("phone", 390)):
        await page.look(width=width)
        seen.screens[screen] = await page.ask(MEASURES)
        await page.picture(PICTURES / f"card-{screen}.png")
    return seen


async def _opened(file: Path, profile: Path) -> Seen:
    async with opened(file, profile) as page:
        return await _look(page)


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """The card of a long run, in a folder as its repository has it."""
    require_chromium()
    PICTURES.mkdir(parents=True, exist_ok=True)
    folder = tmp_path_factory.mktemp("card")
    beside = beside_model(*long_run(folder / "workspace"))
    (folder / "finetune").mkdir()
    for name, content in beside.items():
        (folder / "finetune" / name).write_bytes(content)
    card = rendered(model_card(facts(told=frozenset(beside))))
    file = folder / "card.html"
    file.write_text(LAYOUT + card)
    return asyncio.run(_opened(file, folder / "profile"))


def test_the_curve_is_seen_in_it(seen: Seen) -> None:
    for screen in seen.screens.values():
        assert screen["pictures"] == [["finetune/loss.png", 1400]]


def test_results_settings_and_data_are_tables_and_nothing_is_left_of_the_markdown(
    seen: Seen,
) -> None:
    desk = seen.screens["desk"]
    assert {"Use", "Training", "Data", "Reproduce"} <= set(desk["headings"])
    assert len(desk["tables"]) >= 3
    assert min(desk["tables"]) > 1
    assert (desk["nameless"], desk["raw"]) == (0, [])


def test_it_is_read_on_a_phone_without_scrolling_sideways(seen: Seen) -> None:
    assert {name: screen["overflow"] for name, screen in seen.screens.items()} == {
        "desk": 0,
        "phone": 0,
    }


def test_it_asks_for_nothing_but_itself_and_its_picture(seen: Seen) -> None:
    assert {Path(url).name for url in seen.requests} == {"card.html", "loss.png"}
    assert seen.errors == []
