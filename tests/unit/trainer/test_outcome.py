from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import pytest

from finetune_trainer.outcome import (
    DefectError,
    NonFiniteLossError,
    Outcome,
    PreemptedError,
    RetryableError,
    UserError,
    run_stage,
    write_termination_message,
)
from finetune_trainer.workspace import Workspace


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "termination-log"
    monkeypatch.setenv("FINETUNE_TERMINATION_LOG", str(file))
    return file


def end(workspace: Workspace, error: BaseException) -> int:
    def body() -> tuple[str, dict[str, Any]]:
        raise error

    return run_stage("train", body, workspace)


class OutOfMemoryError(RuntimeError):
    """Named as the accelerator libraries name theirs."""


@pytest.mark.parametrize(
    ("error", "code", "name"),
    [
        (UserError("x"), 10, "UserError"),
        (RetryableError("x"), 11, "Retryable"),
        (MemoryError(), 12, "OutOfMemory"),
        (OutOfMemoryError("no room"), 12, "OutOfMemory"),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
            12,
            "OutOfMemory",
        ),
        (PreemptedError("x"), 13, "Preempted"),
        (NonFiniteLossError("x"), 14, "NonFiniteLoss"),
        (DefectError("x"), 10, "UserError"),
        (OSError(errno.ENOSPC, "No space left on device"), 10, "UserError"),
        (ValueError("I/O error: No space left on device (os error 28)"), 10, "UserError"),
        (ZeroDivisionError("division by zero"), 11, "Retryable"),
    ],
)
def test_every_error_has_the_contracts_code_and_name(
    tmp_path: Path, log: Path, error: BaseException, code: int, name: str
) -> None:
    assert end(Workspace(tmp_path), error) == code
    assert json.loads(log.read_text())["outcome"] == name


def test_success_is_said_in_the_log_and_kept_in_the_workspace(tmp_path: Path, log: Path) -> None:
    workspace = Workspace(tmp_path)
    assert run_stage("merge", lambda: ("Done.", {"merged": "merged"}), workspace) == 0
    said = json.loads(log.read_text())
    assert said == {
        "stage": "merge",
        "outcome": "Succeeded",
        "message": "Done.",
        "result": {"merged": "merged"},
    }
    assert json.loads(workspace.result("merge").read_text()) == said
    assert workspace.read_result("merge") == {"merged": "merged"}


def test_a_failure_is_no_result_of_the_stage(tmp_path: Path, log: Path) -> None:
    workspace = Workspace(tmp_path)
    end(workspace, UserError("wrong"))
    assert workspace.read_result("train") is None


def test_a_user_errors_sentence_arrives_word_for_word(tmp_path: Path, log: Path) -> None:
    end(Workspace(tmp_path), UserError('dataset.split names "tset": write "test".'))
    assert json.loads(log.read_text())["message"] == 'dataset.split names "tset": write "test".'


def test_an_unexpected_error_is_one_sentence_and_a_trace_in_the_log(
    tmp_path: Path, log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    end(Workspace(tmp_path), ValueError("two\nlines"))
    assert json.loads(log.read_text())["message"] == "ValueError: two lines"
    assert "Traceback" in capsys.readouterr().err


def wrapped(cause: BaseException) -> Exception:
    """As libraries wrap what happened to them, twice."""
    try:
        try:
            raise cause
        except BaseException as error:
            raise RuntimeError("generating the data failed") from error
    except RuntimeError:
        try:
            raise ValueError("while that was handled")
        except ValueError as error:
            return error


@pytest.mark.parametrize(
    ("cause", "code", "words"),
    [
        (OSError(errno.ENOSPC, "No space left"), 10, "spec.storage.size"),
        (OSError(errno.EIO, "Input/output error"), 11, "while that was handled"),
        (MemoryError(), 12, "spec.resources.memory"),
        (UserError("Set spec.model.source."), 10, "Set spec.model.source."),
    ],
)
def test_a_cause_is_found_however_deep_it_is_wrapped(
    tmp_path: Path, log: Path, cause: BaseException, code: int, words: str
) -> None:
    assert end(Workspace(tmp_path), wrapped(cause)) == code
    assert words in json.loads(log.read_text())["message"]


def test_a_defect_is_called_one(tmp_path: Path, log: Path) -> None:
    end(Workspace(tmp_path), DefectError("The merged model is not what was trained."))
    said = json.loads(log.read_text())["message"]
    assert said.startswith("The merged model is not what was trained; this is a defect of the")


@pytest.mark.parametrize(
    ("number", "code"), [(errno.EACCES, 10), (errno.EROFS, 10), (errno.EIO, 11)]
)
def test_what_may_not_be_written_of_the_workspace_is_a_matter_of_its_claim(
    number: int, code: int, tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FINETUNE_WORKSPACE", str(tmp_path))
    path = str(tmp_path / "history.jsonl")
    assert end(Workspace(tmp_path), OSError(number, "it fails", path)) == code
    said = json.loads(log.read_text())["message"]
    assert ("spec.storage.claimName" in said) is (code == 10)
    # What lies elsewhere is no matter of the claim.
    assert end(Workspace(tmp_path), OSError(number, "it fails", "/etc/finetune/run.json")) == 11


def test_memory_ran_out_in_another_stage_than_train(tmp_path: Path, log: Path) -> None:
    def body() -> tuple[str, dict[str, Any]]:
        raise MemoryError

    assert run_stage("merge", body, Workspace(tmp_path)) == 12
    said = json.loads(log.read_text())["message"]
    assert said.startswith("merge ran out of memory: let spec.scheduling choose a node")


def test_a_number_that_json_does_not_have_is_left_out(tmp_path: Path, log: Path) -> None:
    def body() -> tuple[str, dict[str, Any]]:
        return "Done.", {"loss": float("nan"), "steps": 3, "losses": [1.0, float("-inf")]}

    workspace = Workspace(tmp_path)
    assert run_stage("train", body, workspace) == 0
    for text in (log.read_text(), workspace.result("train").read_text()):
        said = json.loads(text, parse_constant=pytest.fail)
        assert said["result"] == {"steps": 3, "losses": [1.0, None]}


def test_a_full_volume_says_which_field_to_change(tmp_path: Path, log: Path) -> None:
    end(Workspace(tmp_path), OSError(errno.ENOSPC, "No space left on device"))
    assert "spec.storage.size" in json.loads(log.read_text())["message"]


def test_a_workspace_that_cannot_be_written_does_not_hide_the_end(
    tmp_path: Path, log: Path
) -> None:
    (tmp_path / "results").write_text("a file where the directory should be")
    assert end(Workspace(tmp_path), UserError("wrong")) == 10
    assert json.loads(log.read_text())["message"] == "wrong"


@pytest.mark.parametrize("message", ["long " * 2000, "ü" * 4000, '"' * 4000])
def test_a_long_message_is_shortened_to_what_the_kubelet_keeps(log: Path, message: str) -> None:
    result = {"steps": 5}
    document = {"stage": "train", "outcome": "UserError", "message": message, "result": result}
    write_termination_message(document)
    data = log.read_bytes()
    assert len(data) <= 4096
    said = json.loads(data)
    assert said["outcome"] == "UserError"
    assert said["result"] == result
    assert message.startswith(said["message"])
    assert len(data) > 4090


def test_a_result_too_large_for_the_log_is_left_to_the_workspace(log: Path) -> None:
    document = {
        "stage": "train",
        "outcome": "Succeeded",
        "message": "Trained.",
        "result": {"big": "x" * 5000},
    }
    write_termination_message(document)
    assert len(log.read_bytes()) <= 4096
    assert json.loads(log.read_text())["result"] == {}


def test_the_codes_are_the_documented_ones() -> None:
    page = Path(__file__).parents[3] / "docs" / "stage-contract.md"
    for outcome in Outcome:
        assert f"| {outcome.value} | {outcome.label} |" in page.read_text()
