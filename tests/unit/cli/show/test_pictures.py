"""The terminal views as a terminal with colours shows them, photographed by a browser: pictures are
kept under build/terminal/ for people to judge.
"""

from __future__ import annotations

import asyncio
import io
import math
import re
from pathlib import Path

import pytest
from rich.console import Console, RenderableType

from finetune_cli.history import History
from finetune_cli.preview import preview
from finetune_cli.show import compare, plan, runs
from finetune_cli.show.status import StatusView
from finetune_cli.view import Run
from unit.cli.calls import ROOT
from unit.cli.examples import NOW, TRAINING, raw, training
from unit.trainer.report.chromium import Page, opened, require_chromium

PICTURES = ROOT / "build" / "terminal"
WIDTH = 100
ENDED = {**TRAINING, "phase": "Succeeded"}
OTHER = Run(raw(ENDED, "gemma-math-r64", method={"lora": {"rank": 64}}))
LOSSES = History(
    {step: 1.2 + 2 * math.exp(-step / 25) for step in range(1, 85)},
    {step: 1.3 + 1.8 * math.exp(-step / 25) for step in range(20, 85, 20)},
)
VIEWS: dict[str, RenderableType] = {
    "list": runs.table([training(), OTHER, Run(raw(name="new"))], NOW, wide=False, namespaces=True),
    "status": StatusView(training(), LOSSES, NOW),
    "plan": plan.view(preview(raw(), "demo"), None, everything=False),
    "compare": compare.view([training(), OTHER], everything=False),
}
# Letters that reach beyond the frame of the picture, and how many there are at all.
MEASURES = """(() => {
  const frame = document.querySelector('svg').getBoundingClientRect();
  const words = [...document.querySelectorAll('text')].filter(each => each.textContent.trim());
  return [words.length, words.filter(each =>
    each.getBoundingClientRect().right > frame.right + 1).map(each => each.textContent)];
})()"""


def drawn(view: RenderableType, title: str) -> str:
    """The view as SVG, without the fonts that rich would have a browser fetch."""
    console = Console(
        file=io.StringIO(), record=True, width=WIDTH, force_terminal=True, highlight=False
    )
    console.print(view)
    picture = console.export_svg(title=title)
    return re.sub(r"@font-face \{.*?\}", "", picture, flags=re.DOTALL)


async def _photographed(file: Path, profile: Path) -> tuple[int, list[str], list[str]]:
    async with opened(file, profile) as page:
        return await _look(page, file)


async def _look(page: Page, file: Path) -> tuple[int, list[str], list[str]]:
    await page.look(width=1300)
    words, outside = await page.ask(MEASURES)
    await page.picture(PICTURES / f"{file.stem}.png")
    return words, outside, page.errors


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_is_a_picture_with_every_word_inside(name: str, tmp_path: Path) -> None:
    require_chromium()
    PICTURES.mkdir(parents=True, exist_ok=True)
    file = tmp_path / f"{name}.html"
    picture = drawn(VIEWS[name], f"kubectl finetune {name}")
    file.write_text(f'<!doctype html><html lang="en"><meta charset="utf-8">{picture}')
    words, outside, errors = asyncio.run(_photographed(file, tmp_path / "profile"))
    assert words > 5
    assert (outside, errors) == ([], [])
