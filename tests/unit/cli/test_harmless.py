"""Who may create a run writes its spec, its messages and its logs: no terminal obeys them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from finetune_cli.harmless import escaped, harmless
from finetune_cli.show.line import line
from unit.cli.calls import cli
from unit.cli.examples import training
from unit.cli.screens import piped, terminal

# The clipboard filled, a title, a screen cleared, a colour by the 8-bit introducer, text turned.
HOSTILE = "a\x1b]52;c;ZXZpbA==\x07\x1b]0;owned\x1b\\\x1b[2J\x9b31m\u202egnp.exe\x08\x08z"
# rich reads up to the end of a link's address, and writes what it has read.
LINK = "\x1b]8;;https://example.com\x07\x1b]52;c;ZXZpbA==\x07\x1b\\click\x1b]8;;\x1b\\"
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202e\u2066]")

SETUP = f"""
import json
from datetime import UTC, datetime
from finetune_cli.history import History
from finetune_cli.show import compare, plan, runs
from finetune_cli.show.screen import show
from finetune_cli.show.status import StatusView
from finetune_cli.preview import preview
from finetune_cli.view import Run
from unit.cli.examples import full, raw

HOSTILE = {HOSTILE!r}

def poisoned(value):
    if isinstance(value, dict):
        return {{key: poisoned(item) for key, item in value.items()}}
    if isinstance(value, list):
        return [poisoned(item) for item in value]
    return value + HOSTILE if isinstance(value, str) else value

run = Run(poisoned(dict(full().raw)))
now = datetime(2026, 1, 31, 12, 20, tzinfo=UTC)
"""
VIEWS = """
show(StatusView(run, History(), now, wide=True))
show(runs.table([run], now, wide=True, namespaces=True))
show(compare.view([run, full()], everything=True))
document = raw(trainer={'image': HOSTILE})
show(plan.view(preview(document, HOSTILE), run, everything=True))
"""
LOG = """
from finetune_cli.commands.logs import _Printer
from finetune_cli.podlogs import PodLog
log = PodLog("p", "train", 1, None, has_log=True, ended=True)
_Printer(timestamps=False).put(log, "", {line!r})
"""


def obeyed(written: str) -> list[str]:
    """What a terminal would do besides showing text in colours."""
    return CONTROLS.findall(COLOURS.sub("", written))


def test_no_view_of_a_run_commands_the_terminal() -> None:
    written = terminal(SETUP + VIEWS, COLUMNS="5000")
    assert written.count("ZXZpbA==") > 20, "the views show what is hostile"
    assert obeyed(written) == []


def test_nor_what_is_piped_into_a_pager() -> None:
    assert obeyed(piped(SETUP + VIEWS)) == []


@pytest.mark.parametrize("text", [HOSTILE, LINK], ids=["sequences", "link"])
def test_a_log_has_its_colours_and_commands_nothing(text: str) -> None:
    written = terminal(LOG.format(line=f"\x1b[31mred\x1b[0m {text}"))
    assert "\x1b[31mred" in written
    assert obeyed(written) == []


def test_one_line_of_a_run_is_text() -> None:
    assert obeyed(line(training(message=HOSTILE, phase="Failed"))) == []


def test_what_is_said_of_a_hostile_file_is_text(tmp_path: Path) -> None:
    name = f"x{HOSTILE}"
    path = tmp_path / "run.yaml"
    document = {"apiVersion": "finetune.dev/v1alpha1", "kind": "FineTuneJob"}
    path.write_text(json.dumps({**document, "metadata": {"name": "a"}, "spec": {name: {}}}))
    for command in ("validate", "plan"):
        ended = cli(command, str(path))
        assert ended.returncode == 1
        assert obeyed(ended.stderr + ended.stdout) == []


def test_text_of_people_stays_as_it_is() -> None:
    text = "Größe 3 · 4, 微调 नमस्ते\tok\n"
    assert harmless(text) == text


def test_json_loses_nothing() -> None:
    data = {"message": HOSTILE}
    text = escaped(json.dumps(data, ensure_ascii=False))
    assert obeyed(text) == []
    assert json.loads(text) == data
