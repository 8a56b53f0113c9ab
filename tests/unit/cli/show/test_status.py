"""The view of one run."""

from __future__ import annotations

from typing import Any

import pytest

from finetune_cli.history import History
from finetune_cli.show.status import StatusView
from finetune_cli.view import Run
from unit.cli import examples
from unit.cli.examples import NOW, full, raw, training
from unit.cli.screens import piped, terminal, text_of


def shown(run: Run, width: int = 80, history: History | None = None, **options: Any) -> str:
    encoding = options.pop("encoding", "utf-8")
    view = StatusView(run, history or History(), NOW, **options)
    return text_of(view, width, encoding=encoding)


SCREEN = """\
gemma-math  in demo                                          Training for 20m00s
acme/base · LoRA · acme/data

 ✔  prepare   1m12s  12,034 rows, 8.1M tokens.
 ▶  train    18m40s  attempt 2  ━━━━━━──────── 42%  step 84/200  21m30s left
 ·  merge
 ·  upload

 loss 1.234   validation 1.3   lr 0.00019   epoch 0.42   tokens/s 12,346
 estimated 10Gi   trained 20.8M of 2.6B   saved at step 80

 train runs.

 failed attempts
 train 1  OutOfMemory  Out of memory.  (step 60, exit 12, on node-1)"""


def test_a_run_in_training_is_told_on_one_screen() -> None:
    assert shown(training()) == SCREEN


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_nothing_is_wider_than_the_terminal(width: int) -> None:
    history = History({step: 3.0 / step for step in range(1, 84)}, {40: 1.3})
    assert max(map(len, shown(training(), width, history).splitlines())) <= width


def test_a_terminal_without_unicode_gets_other_characters() -> None:
    history = History({step: 3.0 / step for step in range(1, 84)}, {40: 1.3})
    drawn = shown(training(), history=history, encoding="ascii")
    assert "######-------- 42%" in drawn
    assert "?" not in drawn  # what stands for a character that an encoding does not have


def test_every_field_of_a_status_may_be_there() -> None:
    drawn = shown(full(), wide=True)
    assert "OutOfMemory" in drawn
    assert "Ready  False" in drawn


def test_a_run_that_no_operator_has_seen_says_so() -> None:
    drawn = shown(Run(raw()))
    assert "Pending" in drawn
    assert "No operator has seen it yet" in drawn


def test_what_the_run_waits_for_is_told() -> None:
    message = "train waits: no node has 3 nvidia.com/gpu."
    assert message in shown(training(message=message))


def test_a_failed_run_tells_its_message() -> None:
    message = "dataset.format names a column that is not there."
    assert message in shown(training(phase="Failed", message=message))


def test_what_has_failed_is_told_once() -> None:
    message = "dataset.split names val."
    attempt = {"stage": "prepare", "attempt": 1, "message": message, "exitCode": 10}
    status = {"phase": "Failed", "message": f"{message} Correct it.", "attempts": [attempt]}
    drawn = shown(Run(raw(status)))
    assert drawn.count(message) == 1
    assert "exit 10" in drawn


def test_a_stage_whose_pod_waits_does_not_run() -> None:
    status: dict[str, Any] = {
        "phase": "Uploading",
        "stages": [{"name": "upload", "state": "Running", "attempt": 1}],
        "conditions": [{"type": "Ready", "status": "False", "reason": "ImagePullBackOff"}],
    }
    assert shown(Run(raw(status))).splitlines()[3].split()[1:] == ["upload", "waits"]
    status["conditions"][0]["reason"] = "Uploading"
    assert shown(Run(raw(status))).splitlines()[3].split()[1:] == ["upload", "runs"]


def test_a_finished_run_tells_where_the_model_is() -> None:
    artifacts = {"url": "https://hub.test/acme/tuned", "commit": "0123456789", "merged": "merged"}
    done = training(
        phase="Succeeded",
        completionTime="2026-01-31T12:30:00Z",
        artifacts={**artifacts, "claimName": "gemma-math-workspace"},
    )
    drawn = shown(done)
    assert "Succeeded after 30m00s" in drawn
    assert "https://hub.test/acme/tuned  01234567" in drawn
    assert "pvc://gemma-math-workspace/merged" in drawn


def test_the_conditions_are_told_when_asked_for() -> None:
    assert "conditions" not in shown(training())
    assert "Ready  False  Training" in shown(training(), wide=True)


def test_a_phase_of_a_newer_operator_is_shown_as_it_is() -> None:
    stages = [*examples.TRAINING["stages"], {"name": "evaluate", "state": "Running"}]
    drawn = shown(training(phase="Evaluating", stages=stages))
    assert "Evaluating" in drawn
    assert "▶  evaluate" in drawn


@pytest.mark.parametrize("height", [14, 20, 24, 40])
def test_where_one_cannot_scroll_the_curve_gives_way(height: int) -> None:
    history = History({step: 3.0 / step for step in range(1, 84)}, {40: 1.3})
    drawn = shown(training(), history=history, height=height)
    assert len(drawn.splitlines()) < max(height, 16)
    assert "train runs." in drawn
    assert ("└──" in drawn) == (height >= 24)


def test_colours_are_for_terminals_and_for_who_wants_them() -> None:
    entry = (
        "from finetune_cli.show.screen import show; from finetune_cli.show.status import *;"
        "from unit.cli.examples import *; show(StatusView(training(), History(), NOW))"
    )
    coloured, plain = "\x1b[36m", "gemma-math"
    assert coloured in terminal(entry)
    assert coloured not in terminal(entry, NO_COLOR="1")
    assert plain in terminal(entry, NO_COLOR="1")
    assert "\x1b" not in piped(entry)
