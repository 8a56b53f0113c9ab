"""The report that a real run leaves: a tiny model, trained in two attempts by real processes."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest

from finetune_trainer.outcome import Outcome
from finetune_trainer.report import leave_report, page
from finetune_trainer.report.read import read_facts
from finetune_trainer.run import Run
from finetune_trainer.workspace import Workspace
from unit.trainer.artifacts import tiny_run
from unit.trainer.report.runs import long_run, stage
from unit.trainer.train.forked import run_to_its_end, start
from unit.trainer.train.made import container_environment, plan, prepared_workspace

STEPS = 100


@pytest.fixture(scope="module")
def run() -> Run:
    return plan(maxSteps=STEPS, evaluateEverySteps=50, samplesAtEvaluation=1)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, run: Run) -> Workspace:
    """After an attempt that was told to stop, and one that came to the end."""
    workspace = prepared_workspace(tmp_path_factory.mktemp("trained") / "workspace")
    first = start(workspace, run)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (
        workspace.history.exists() and workspace.history.read_text().count("\n") > 3
    ):
        time.sleep(0.02)
    first.send_signal(signal.SIGTERM)
    said, _ = first.communicate()
    assert first.returncode == Outcome.PREEMPTED, said
    assert workspace.report.exists()
    second = run_to_its_end(workspace, run, FINETUNE_ATTEMPT="2")
    assert second.outcome is Outcome.SUCCEEDED, second.log
    return workspace


def test_a_run_of_two_attempts_shows_both(trained: Workspace, run: Run) -> None:
    facts = read_facts(run, trained, public=False)
    assert [(each.number, each.outcome) for each in facts.attempts] == [
        (1, "Preempted"),
        (2, "Succeeded"),
    ]
    (resumption,) = facts.resumptions
    assert (resumption.attempt, resumption.step) == (2, facts.train["resumedFromStep"])
    assert len(facts.curves["loss"]) == STEPS
    text = trained.report.read_text()
    assert "attempt 2</text>" in text
    assert "stopped, its work kept" in text


def test_what_training_measured_is_on_the_page(trained: Workspace) -> None:
    result = trained.read_result("train")
    assert result is not None
    text = trained.report.read_text()
    for name in ("validationLoss", "baseValidationLoss"):
        assert f"{result[name]:.3f}" in text
    line = json.loads((trained.logs / "samples.jsonl").read_text().splitlines()[-1])
    assert line["step"] == STEPS
    assert "<h3>Tuned</h3>" in text


def test_a_report_that_cannot_be_written_fails_no_stage(trained: Workspace, run: Run) -> None:
    trained.report.unlink()
    trained.report.mkdir()
    try:
        again = stage("train", trained, run, FINETUNE_ATTEMPT="3")
    finally:
        trained.report.rmdir()
    assert again.returncode == 0
    assert "no report: " in again.stderr


@pytest.fixture
def finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    run, workspace = long_run(tmp_path, steps=9)
    for name, value in container_environment(workspace, run).items():
        monkeypatch.setenv(name, value)
    return workspace


def test_a_defect_in_the_report_is_said_and_raises_nothing(
    finished: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(_: object) -> str:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(page, "report_page", broken)
    leave_report(finished)
    assert "no report: ZeroDivisionError: division by zero" in capsys.readouterr().err


def test_a_workspace_of_another_plan_gets_no_report(finished: Workspace) -> None:
    finished.plan_hash.write_text("another\n")
    leave_report(finished)
    assert not finished.report.exists()


def test_only_the_first_pod_writes_it(finished: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINETUNE_NODE_RANK", "1")
    leave_report(finished)
    assert not finished.report.exists()
    monkeypatch.setenv("FINETUNE_NODE_RANK", "0")
    leave_report(finished)
    assert finished.report.exists()


def test_a_plan_that_continues_the_prepared_one_gets_a_report(
    finished: Workspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    prepared = finished.plan_hash.read_text().strip()
    continues = {"plan": prepared, "stages": {"prepare": prepared, "train": prepared}}
    run = tiny_run(planHash="another", continues=continues)
    file = tmp_path / "continued.json"
    file.write_text(run.model_dump_json(by_alias=True, exclude_none=True))
    monkeypatch.setenv("FINETUNE_RUN_FILE", str(file))
    leave_report(finished)
    assert "another" in finished.report.read_text()
