"""Lines of the operator's log: fields that a collector can rely on, nothing that a terminal or a
reader of lines could be deceived by.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from typing import Any

import pytest

from finetune_operator.runtime import subject
from finetune_operator.runtime.subject import Subject
from finetune_operator.shell.logs import JsonFormatter, TextFormatter

FORGED = "done\n2026-01-31 12:00:00 INFO all is well\x1b]0;owned\x07\x1b[2J"


def record(message: str, error: BaseException | None = None) -> logging.LogRecord:
    info: Any = (type(error), error, error.__traceback__) if error else None
    return logging.LogRecord("finetune_operator.x", logging.WARNING, "", 1, message, (), info)


def raised(message: str) -> BaseException:
    try:
        raise RuntimeError(message)
    except RuntimeError:
        error = sys.exc_info()[1]
        assert error is not None
        return error


def test_a_line_is_an_object_with_time_level_logger_and_message() -> None:
    entry = json.loads(JsonFormatter().format(record("Ready.")))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", entry.pop("time"))
    assert entry == {"level": "WARNING", "logger": "finetune_operator.x", "message": "Ready."}


def about(run: Subject) -> dict[str, Any]:
    token = subject.run.set(run)
    try:
        found: dict[str, Any] = json.loads(JsonFormatter().format(record("Ready.")))
    finally:
        subject.run.reset(token)
    return found


def test_a_line_about_a_run_names_it() -> None:
    entry = about(Subject("team-a", "demo", "0f-4c"))
    assert (entry["namespace"], entry["finetunejob"], entry["uid"]) == ("team-a", "demo", "0f-4c")


def test_of_a_run_that_is_gone_nobody_knows_the_uid() -> None:
    entry = about(Subject("team-a", "demo", None))
    assert (entry["namespace"], entry["finetunejob"]) == ("team-a", "demo")
    assert "uid" not in entry


@pytest.mark.parametrize("formatter", [JsonFormatter(), TextFormatter()], ids=["json", "text"])
def test_no_message_forges_a_line_or_commands_a_terminal(formatter: logging.Formatter) -> None:
    line = formatter.format(record(FORGED))
    assert "\n" not in line
    assert not re.search("[\x00-\x1f\x7f-\x9f]", line)


@pytest.mark.parametrize("formatter", [JsonFormatter(), TextFormatter()], ids=["json", "text"])
def test_nor_does_an_error(formatter: logging.Formatter) -> None:
    written = formatter.format(record("Failed.", raised(FORGED)))
    assert "RuntimeError" in written
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f]", written)


def test_a_traceback_keeps_its_indentation() -> None:
    written = TextFormatter().format(record("Failed.", raised("why")))
    assert "\n  File " in written
    assert written.endswith("\nRuntimeError: why")


def test_a_token_that_a_message_holds_is_not_logged() -> None:
    token = "hf_" + "a1B2" * 8
    for formatter in (JsonFormatter(), TextFormatter()):
        assert token not in formatter.format(record(f"Hub said no to {token}"))
