from __future__ import annotations

from typing import Any

import pytest

from finetune_operator.runtime.throttle import delay_of_write

READY = {"type": "Ready", "status": "False", "reason": "Training", "message": "train runs"}
OLD = {
    "conditions": [READY],
    "phase": "Training",
    "progress": {"step": 1},
    "metrics": {"loss": "2"},
}


@pytest.mark.parametrize(
    ("name", "new", "since", "delay"),
    [
        ("progress waits for its turn", {**OLD, "progress": {"step": 2}}, 4.0, 6.0),
        ("progress is written when it is due", {**OLD, "progress": {"step": 2}}, 10.0, 0.0),
        ("the first progress does not wait", {**OLD, "progress": {"step": 2}}, None, 0.0),
        ("metrics are progress", {**OLD, "metrics": {"loss": "1"}}, 1.0, 9.0),
        ("so are metrics that appear", {**OLD, "memory": {"measured": "1Gi"}}, 1.0, 9.0),
        ("what it waits for is progress", {**OLD, "message": "no node"}, 1.0, 9.0),
        (
            "so are the words of a condition",
            {**OLD, "conditions": [{**READY, "reason": "Unschedulable", "message": "no node"}]},
            1.0,
            9.0,
        ),
        (
            "a condition that changes is a transition",
            {**OLD, "conditions": [{**READY, "status": "True"}]},
            1.0,
            0.0,
        ),
        ("a transition does not wait", {**OLD, "phase": "Merging"}, 0.0, 0.0),
        (
            "progress goes with a transition",
            {**OLD, "phase": "Merging", "progress": {"step": 2}},
            0.0,
            0.0,
        ),
        ("a removed field is a transition", {"progress": {"step": 1}}, 0.0, 0.0),
    ],
)
def test_delay(name: str, new: dict[str, Any], since: float | None, delay: float) -> None:
    assert delay_of_write(OLD, new, since) == delay, name


def test_a_suspended_runs_last_progress_does_not_wait() -> None:
    old = {**OLD, "phase": "Suspended"}
    assert delay_of_write(old, {**old, "progress": {"step": 2}}, 1.0) == 0.0
    assert delay_of_write(old, {**old, "message": "no node"}, 1.0) == 9.0
