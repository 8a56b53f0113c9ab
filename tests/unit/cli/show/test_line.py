"""One run in one line."""

from __future__ import annotations

from finetune_cli.show.line import line
from unit.cli.examples import training


def test_training_tells_its_progress() -> None:
    assert line(training()) == "gemma-math: Training  42%  step 84/200  loss 1.234  21m30s left"


def test_an_end_tells_its_message() -> None:
    failed = training(phase="Failed", message="The token may not write.")
    assert line(failed) == "gemma-math: Failed  The token may not write."
