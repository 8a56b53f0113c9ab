"""What the documents say that code can contradict: the first example, links, settings, versions."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from finetune_operator import config

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "tests").rglob("README.md")),
    *sorted((ROOT / "benchmarks").glob("*.md")),
]
_FENCED = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`[^`\n]*`")
_CODE_FILE = re.compile(r"`((?:tests|operator|trainer-image)/[\w./-]+\.py)(?:::(\w+))?`")
# Lines of a terminal, or of a browser's window: what is read without scrolling back.
ONE_SCREEN = 40


def test_the_readme_shows_a_sample_that_the_tests_apply() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    sample = (ROOT / "manifests" / "samples" / "gemma-math.yaml").read_text()
    assert [yaml.safe_load(block) for block in blocks] == [yaml.safe_load(sample)]


def anchors(page: Path) -> set[str]:
    """What a link may lead to on a page, as GitHub makes it of headings, and anchors of its own."""
    text = _FENCED.sub("", page.read_text())
    found = set(re.findall(r'<a id="([^"]+)">', text))
    counted: dict[str, int] = {}
    for heading in re.findall(r"^#+ (.+?)\s*$", text, re.MULTILINE):
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        times = counted.setdefault(slug, 0)
        counted[slug] += 1
        found.add(f"{slug}-{times}" if times else slug)
    return found


def links(page: Path) -> Iterator[str]:
    """The links of a page that stay in this repository."""
    text = _CODE.sub("", _FENCED.sub("", page.read_text()))
    for link in re.findall(r"\]\(([^)\s]+)[^)]*\)", text):
        if "://" not in link:
            yield link


def leads_nowhere(page: Path, link: str) -> bool:
    """Whether the file, or the place in it, is not there."""
    path, _, place = link.partition("#")
    target = page.parent / path if path else page
    if not target.exists():
        return True
    return bool(place) and target.suffix == ".md" and place not in anchors(target)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    assert [link for link in links(page) if leads_nowhere(page, link)] == []


def test_a_link_to_nowhere_is_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One: `a.b`, two\n\n## One\n\n## One\n\n```\n# no heading\n```\n")
    assert anchors(page) == {"one-ab-two", "one", "one-1"}
    good = ["page.md", "#one", "page.md#one-1"]
    bad = ["other.md", "#no-heading", "page.md#two"]
    assert [link for link in good + bad if leads_nowhere(page, link)] == bad


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.name)
def test_every_page_is_found_from_the_readme_or_from_a_page_beside_it(page: Path) -> None:
    others = [other for other in PAGES if other != page and other.name != "CHANGELOG.md"]
    led_to = {
        (other.parent / link.partition("#")[0]).resolve()
        for other in others
        for link in links(other)
    }
    assert page in led_to


def test_every_setting_of_the_operator_is_documented() -> None:
    code = Path(config.__file__).read_text()
    read = set(re.findall(r'(?:env\.get\(|env\[|_[a-z]+\(env, )"([A-Z_]+)"', code))
    read -= {"XDG_STATE_HOME", "HOME", "KUBERNETES_SERVICE_HOST"}
    table = (ROOT / "docs" / "operating.md").read_text()
    assert set(re.findall(r"^\| `([A-Z_]+)` \|", table, re.MULTILINE)) == read


def test_the_changelog_begins_with_the_version_that_the_repository_makes() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    chart = yaml.safe_load((ROOT / "helm" / "finetune-operator" / "Chart.yaml").read_text())
    entries = re.findall(
        r"^## \[([0-9.]+)\] - (\S+)$", (ROOT / "docs" / "CHANGELOG.md").read_text(), re.MULTILINE
    )
    version, date = entries[0]
    assert version == project["version"] == chart["version"]
    assert re.fullmatch(r"unreleased|\d{4}-\d{2}-\d{2}", date)


def test_every_make_target_that_the_documents_name_is_there() -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        text = page.read_text()
        named = re.findall(r"(?:`|\$ )make ([a-z][a-z0-9-]*)", text)
        assert set(named) <= targets, page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_test_that_a_page_names_is_there(page: Path) -> None:
    for path, name in _CODE_FILE.findall(page.read_text()):
        assert (ROOT / path).is_file(), path
        assert not name or f"def {name}(" in (ROOT / path).read_text(), name


def test_the_index_leads_to_every_page() -> None:
    index = ROOT / "docs" / "README.md"
    led_to = [(index.parent / link.partition("#")[0]).resolve() for link in links(index)]
    pages = {page for page in (ROOT / "docs").rglob("*.md") if page.parent.name != "runbooks"}
    pages |= {ROOT / "README.md", ROOT / "docs" / "runbooks", ROOT / "docs" / "LICENSE"}
    assert pages - {index} - set(led_to) == set()


def test_the_index_says_nothing_twice() -> None:
    rows = re.findall(r"^\| ([^|]+) \|", (ROOT / "docs" / "README.md").read_text(), re.MULTILINE)
    assert sorted(rows) == sorted(set(rows))


def test_the_first_run_is_read_on_one_screen() -> None:
    _, _, rest = (ROOT / "README.md").read_text().partition("\n## First run\n")
    first, _, _ = rest.partition("\n## ")
    assert "kubectl apply" in first
    assert len(first.strip().splitlines()) <= ONE_SCREEN
