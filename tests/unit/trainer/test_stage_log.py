from __future__ import annotations

import json
from pathlib import Path

import pytest

from finetune_trainer import stage_log
from finetune_trainer.outcome import UserError, run_stage
from finetune_trainer.stage_log import Attempt, note, read_attempts
from finetune_trainer.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setenv("FINETUNE_TERMINATION_LOG", str(tmp_path / "termination-log"))
    (tmp_path / "plan-hash").write_text("0f4c\n")
    return Workspace(tmp_path)


def test_a_stage_tells_when_it_began_and_how_it_ended(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FINETUNE_ATTEMPT", "2")
    run_stage("merge", lambda: ("Done.", {}), workspace)
    (attempt,) = read_attempts(workspace)
    assert (attempt.stage, attempt.number, attempt.outcome) == ("merge", 2, "Succeeded")
    assert attempt.ended is not None
    assert attempt.began <= attempt.ended


def test_how_a_stage_failed_is_told_too(workspace: Workspace) -> None:
    def fail() -> tuple[str, dict[str, object]]:
        raise UserError("Set spec.model.source.")

    run_stage("train", fail, workspace)
    assert [each.outcome for each in read_attempts(workspace)] == ["UserError"]


def test_an_attempt_that_was_killed_has_a_beginning_and_no_end(workspace: Workspace) -> None:
    note("train", workspace)
    assert read_attempts(workspace) == [Attempt("train", 1, stage_log.BEGAN)]


def test_attempts_that_found_the_work_done_are_not_told(workspace: Workspace) -> None:
    lines = [
        {"stage": "merge", "attempt": number, "began": number, "ended": number, "outcome": outcome}
        for number, outcome in ((1, "Retryable"), (2, "Succeeded"), (3, "Succeeded"))
    ]
    workspace.logs.mkdir()
    workspace.stages.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert [each.number for each in read_attempts(workspace)] == [1, 2]


@pytest.mark.parametrize("line", ["", "{", "[]", "null", '{"stage": "train"}', '{"attempt": "x"}'])
def test_lines_without_a_sense_are_left_out(workspace: Workspace, line: str) -> None:
    note("train", workspace)
    with workspace.stages.open("a") as file:
        file.write(line + "\n")
    assert len(read_attempts(workspace)) == 1


def test_nothing_is_written_where_no_run_is(workspace: Workspace) -> None:
    workspace.plan_hash.unlink()
    note("prepare", workspace, "UserError")
    assert not workspace.logs.exists()


def test_other_pods_than_the_first_write_nothing(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FINETUNE_NODE_RANK", "1")
    note("train", workspace)
    assert not workspace.logs.exists()


def test_a_log_that_cannot_be_written_fails_no_stage(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace.logs.write_text("a file where the directory should be")
    assert run_stage("merge", lambda: ("Done.", {}), workspace) == 0
    assert "cannot write" in capsys.readouterr().err
