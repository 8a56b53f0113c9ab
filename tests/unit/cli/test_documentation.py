"""docs/cli.md: what needs no cluster is executed. Command lines of every page are parsed."""

from __future__ import annotations

import re
import shlex
import textwrap
from pathlib import Path

import click
import pytest

from finetune_cli.app import COMMANDS, app
from finetune_cli.errors import Exit
from unit.cli.calls import ROOT, cli

PAGE = (ROOT / "docs" / "cli.md").read_text()
ALL = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
OFFLINE = ("init", "validate", "plan")


def commands(page: str = PAGE) -> list[tuple[str, str]]:
    """Every `$ …` line of the page with the output that is shown below it."""
    blocks = map(textwrap.dedent, re.findall(r"```console\n(.*?)```", page, re.DOTALL))
    parts = [part for block in blocks for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]]
    halves = [part.partition("\n") for part in parts]
    return [(line, shown) for line, _, shown in halves]


def ours() -> list[list[str]]:
    typed = [line for page in ALL for line, _ in commands(page.read_text())]
    lines = [re.split(r"(?:^|kubectl[ -])finetune ", line, maxsplit=1) for line in typed]
    found = [line[1].split(">")[0].rstrip(")") for line in lines if len(line) == 2]
    return [shlex.split(line, comments=True) for line in found]


@pytest.mark.parametrize("words", ours(), ids=" ".join)
def test_every_command_line_is_one_that_the_plug_in_takes(words: list[str]) -> None:
    if words == ["--help"]:
        return
    context = click.Context(app)
    name, command, arguments = app.resolve_command(context, words)
    assert command is not None
    command.make_context(name, arguments, parent=context)


def test_what_needs_no_cluster_prints_what_the_page_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = []
    for line, shown in commands():
        words = shlex.split(line)
        if words[:2] != ["kubectl", "finetune"] or words[2] not in OFFLINE:
            continue
        ended = cli(*words[2:])
        assert (ended.returncode, ended.stdout) == (Exit.OK, shown), ended.stderr
        ran.append(words[2])
    assert ran == list(OFFLINE)


def test_every_command_is_on_the_page() -> None:
    missing = [name for name in COMMANDS if not re.search(rf"kubectl[ -]finetune {name}\b", PAGE)]
    assert missing == []


def test_every_exit_code_is_on_the_page() -> None:
    codes = {value for name, value in vars(Exit).items() if name.isupper()}
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE)} == codes
