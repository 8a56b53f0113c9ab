"""A how-to is complete: needs, a valid run, commands, what one sees, what can go wrong."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from finetune_cli.validation import problems
from finetune_operator.vocabulary import KIND

DOCS = Path(__file__).resolve().parents[2] / "docs"
HOW_TOS = sorted((DOCS / "how-to").glob("*.md"))
_BLOCK = re.compile(r"^ *```(\w+)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)

# Each begins with what one needs and ends with what one sees and what can go wrong; what is done
# stands between, under names of its own where there is more than one run.
FIRST, LAST = "What you need", "What can go wrong"


@pytest.fixture(params=HOW_TOS, ids=lambda page: page.stem)
def page(request: pytest.FixtureRequest) -> Path:
    found: Path = request.param
    return found


def headings(page: Path) -> list[str]:
    return re.findall(r"^## (.+)$", page.read_text(), re.MULTILINE)


def blocks(page: Path, language: str) -> list[str]:
    return [body for name, body in _BLOCK.findall(page.read_text()) if name == language]


def test_it_says_what_is_needed_first_and_what_can_go_wrong_last(page: Path) -> None:
    found = headings(page)
    assert (found[0], found[-1]) == (FIRST, LAST)


def test_it_shows_a_run_that_is_valid(page: Path) -> None:
    shown = [
        document
        for block in blocks(page, "yaml")
        for document in yaml.safe_load_all(block)
        if document["kind"] == KIND
    ]
    assert shown
    assert [problem for document in shown for problem in problems(document)] == []


def test_it_has_commands_to_type(page: Path) -> None:
    assert any(
        "kubectl apply" in block or "kubectl patch" in block for block in blocks(page, "console")
    )


def test_the_index_leads_to_it(page: Path) -> None:
    assert f"](how-to/{page.name})" in (DOCS / "README.md").read_text()
