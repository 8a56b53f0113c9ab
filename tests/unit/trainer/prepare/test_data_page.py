"""docs/data.md: the rows that it shows are rows of the formats beside them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from finetune_trainer.data.examples import Examples
from finetune_trainer.prepare import stage
from finetune_trainer.run import Format
from finetune_trainer.workspace import Workspace
from unit.trainer.prepare.plans import plan, write_rows

PAGE = (Path(__file__).resolve().parents[4] / "docs" / "data.md").read_text()
SHOWN = re.findall(r"^\| `(\w+: \{.*?\})` \| `(\{.*?\})` \| (.+) \|$", PAGE, re.MULTILINE)
# Labels are told apart: one row alone has nothing to learn.
OTHERS: dict[str, dict[str, Any]] = {"classification": {"text": "They won.", "label": "sport"}}


def test_every_format_has_its_row() -> None:
    names = {field.alias for field in Format.model_fields.values()}
    assert {next(iter(yaml.safe_load(format))) for format, _, _ in SHOWN} == names


@pytest.mark.parametrize(("format", "row", "said"), SHOWN, ids=[row[0][:20] for row in SHOWN])
def test_prepare_takes_the_row(
    workspace: Workspace, sources: Path, format: str, row: str, said: str
) -> None:
    shown = yaml.safe_load(format)
    task = re.search(r"; task (\w+)$", said)
    run = plan(task=task[1] if task else "Generation", dataset={"format": shown})
    one = json.loads(row)
    write_rows(sources / "dataset" / "rows.jsonl", [one, OTHERS.get(next(iter(shown)), one)])
    stage(run, workspace)
    assert len(Examples(workspace.data / "train")) > 0
