"""What the documents say that code can contradict: the first example, links and settings."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from finetune_operator import config

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "tests").glob("*/README.md")),
    *sorted((ROOT / "benchmarks").glob("*.md")),
]


def test_the_readme_shows_a_sample_that_the_tests_apply() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    sample = (ROOT / "manifests" / "samples" / "gemma-math.yaml").read_text()
    assert [yaml.safe_load(block) for block in blocks] == [yaml.safe_load(sample)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text())
    local = [link for link in links if "://" not in link]
    assert [link for link in local if not (page.parent / link).exists()] == []


def test_every_setting_of_the_operator_is_documented() -> None:
    code = Path(config.__file__).read_text()
    read = set(re.findall(r'(?:env\.get\(|env\[|_[a-z]+\(env, )"([A-Z_]+)"', code))
    read -= {"XDG_STATE_HOME", "HOME", "KUBERNETES_SERVICE_HOST"}
    table = (ROOT / "docs" / "operating.md").read_text()
    assert set(re.findall(r"^\| `([A-Z_]+)` \|", table, re.MULTILINE)) == read
