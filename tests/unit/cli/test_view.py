"""A run as it is shown, whatever its operator is."""

from __future__ import annotations

import pytest

from finetune_cli.view import Run, method_in_words
from finetune_operator.core import waiting
from unit.cli.examples import TRAINING, full, raw, training


def test_a_status_about_an_earlier_spec_is_no_end() -> None:
    ended = {**TRAINING, "phase": "Failed"}
    assert Run(raw(ended)).is_over
    again = raw(ended)
    again["metadata"]["generation"] = 2
    assert not Run(again).is_over


def test_what_holds_a_run_up_is_what_its_condition_says() -> None:
    assert not training().waits
    starting = [{"type": "Ready", "status": "False", "reason": waiting.STARTING}]
    assert not training(conditions=starting).waits
    for reason in ("Unschedulable", "ImagePullBackOff", waiting.STUCK, "Unavailable"):
        conditions = [{"type": "Ready", "status": "False", "reason": reason}]
        assert training(conditions=conditions).waits
        assert not training(conditions=conditions, phase="Failed").waits


def test_the_full_status_of_the_operators_tests_is_read() -> None:
    run = full()
    assert (run.phase, [stage.name for stage in run.stages]) == ("Training", ["train"])
    assert run.started == run.stages[0].started


@pytest.mark.parametrize("status", [None, {}, {"stages": []}, {"conditions": [], "metrics": {}}])
def test_a_status_may_lack_anything(status: dict[str, object] | None) -> None:
    run = Run({**raw(), "status": status})
    assert (run.phase, run.stages, dict(run.metrics), run.waits) == ("Pending", [], {}, False)


@pytest.mark.parametrize(
    ("method", "words"),
    [
        ({"lora": {"rank": 8, "quantization": "NF4"}}, "LoRA, rank 8, NF4"),
        ({"full": {}}, "full"),
        ({"ia3": None}, "IA3"),
        ({}, ""),
    ],
)
def test_a_method_in_a_few_words(method: dict[str, object], words: str) -> None:
    assert method_in_words(method) == words
