from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from finetune_trainer.report.facts import Facts, Resumption
from finetune_trainer.report.page import report_page
from finetune_trainer.report.read import read_facts
from finetune_trainer.workspace import Workspace, write_json
from unit.trainer.artifacts import tiny_run
from unit.trainer.report.runs import attempt, long_run, succeeded, written


def facts(workspace: Workspace, *, public: bool = False) -> Facts:
    return read_facts(tiny_run(), workspace, public=public)


def test_the_curves_have_every_logged_step(tmp_path: Path) -> None:
    _, workspace = long_run(tmp_path, steps=90)
    found = facts(workspace)
    assert list(found.curves["loss"].steps) == list(range(1, 91))
    assert list(found.curves["base_eval_loss"].steps) == [0]
    assert found.train["bestStep"] == 80


def test_each_later_attempt_is_where_it_went_on(tmp_path: Path) -> None:
    _, workspace = long_run(tmp_path, steps=90)
    assert facts(workspace).resumptions == [Resumption(2, 30), Resumption(3, 60)]


def test_an_attempt_that_came_to_no_step_is_no_resumption(tmp_path: Path) -> None:
    _, workspace = long_run(tmp_path, steps=90)
    with workspace.stages.open("a") as file:
        file.write(json.dumps(attempt("train", 4, 1e6, 1, "Retryable")) + "\n")
    assert len(facts(workspace).resumptions) == 2


def test_an_attempt_that_was_killed_lasted_to_its_last_kept_step(tmp_path: Path) -> None:
    _, workspace = long_run(tmp_path, steps=90)
    killed = facts(workspace).attempts[1]
    assert (killed.stage, killed.outcome) == ("train", None)
    assert killed.ended is not None
    assert killed.ended - killed.began == pytest.approx(20 + 30 * 1.2)


def test_samples_of_the_base_stand_beside_the_last_ones(tmp_path: Path) -> None:
    _, workspace = long_run(tmp_path, steps=90)
    (first, *_) = facts(workspace).samples
    assert first.step == 90
    assert first.base is not None
    assert first.base.startswith("I'm glad")
    assert first.tuned.startswith("a body of water")


def test_a_run_that_failed_says_how(tmp_path: Path) -> None:
    _, workspace = long_run(tmp_path, steps=90)
    failed = {"stage": "merge", "outcome": "UserError", "message": "Set it.", "result": {}}
    write_json(workspace.result("merge"), failed)
    failure = facts(workspace).failure
    assert failure is not None
    assert (failure.stage, failure.message) == ("merge", "Set it.")


def test_beside_a_model_nothing_of_the_datas_text_is_shown(tmp_path: Path) -> None:
    run, workspace = long_run(tmp_path, steps=90)
    assert "lagoon" in report_page(read_facts(run, workspace, public=False))
    public = report_page(read_facts(run, workspace, public=True))
    assert "lagoon" not in public
    assert "hammering" not in public


def test_what_is_published_does_not_change_when_the_upload_is_tried_again(tmp_path: Path) -> None:
    run, workspace = long_run(tmp_path, steps=90)
    before = report_page(read_facts(run, workspace, public=True))
    with workspace.stages.open("a") as file:
        for line in (attempt("upload", 1, 9e3, 4, "Retryable"), attempt("merge", 2, 9e3, 4, "x")):
            file.write(json.dumps(line) + "\n")
    succeeded(workspace, "upload", {"repository": "acme/x", "commit": "c" * 40})
    assert report_page(read_facts(run, workspace, public=True)) == before


@pytest.mark.parametrize(
    "broken",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 5000, b'"text"', b'{"result": 3}', b"NaN"],
    ids=lambda value: repr(value)[:12],
)
def test_files_that_make_no_sense_are_as_if_they_were_not_there(
    tmp_path: Path, broken: bytes
) -> None:
    run, workspace = long_run(tmp_path, steps=9)
    for file in tmp_path.rglob("*.json*"):
        file.write_bytes(broken)
    assert "smollm2-glosses" in report_page(read_facts(run, workspace, public=False))


WRONG: list[Any] = [None, "x", -1, 1e400, [], {}, True, "1" * 5000]


@pytest.mark.parametrize("value", WRONG, ids=lambda value: repr(value)[:12])
def test_values_of_another_kind_break_nothing(tmp_path: Path, value: Any) -> None:
    run, workspace = long_run(tmp_path, steps=9)
    for path in (
        workspace.prepare / "report.json",
        workspace.prepare / "preview.json",
        workspace.result("train"),
    ):
        found = json.loads(path.read_bytes())
        for place in [found, found.get("result", {})]:
            for name in place:
                if name not in ("result", "outcome"):
                    place[name] = value
        path.write_text(json.dumps(found))
    lines = [json.loads(line) for line in workspace.history.read_text().splitlines()]
    written(workspace, "history.jsonl", [dict.fromkeys(lines[1], value), *lines[:2]])
    samples = {"step": 3, "prompt": value, "sample": value, "reference": value}
    written(workspace, "logs/samples.jsonl", [samples, dict.fromkeys(samples, value)])
    assert "</html>" in report_page(read_facts(run, workspace, public=False))


def test_a_workspace_with_nothing_but_a_plan_has_a_report(tmp_path: Path) -> None:
    page = report_page(facts(Workspace(tmp_path)))
    assert "smollm2-glosses" in page
    assert "<h2>Evaluation" not in page
