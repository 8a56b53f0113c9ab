import dataclasses
from typing import Any

import pytest

from finetune_operator.api.status import Progress, Status
from finetune_operator.core.model import Report
from finetune_operator.core.moments import to_text
from finetune_operator.core.progress import applied
from unit.operator.builders import NOW, job, later

JOB = job("train", start_time=to_text(NOW))
METRICS = {
    "current_step": "84",
    "total_steps": "200",
    "checkpoint_step": "80",
    "current_epoch": "0.42",
    "tokens_per_second": "2310",
    "loss": "1.93",
    "eval_loss": "2.5",
    "learning_rate": "0.0002",
    "grad_norm": "0.7",
}


def report(seconds: float = 0, **fields: Any) -> Report:
    made = Report("demo-train-1", later(seconds), percent=42, eta_seconds=310, metrics=METRICS)
    return dataclasses.replace(made, **fields)


def step(number: int) -> dict[str, str]:
    return {"current_step": str(number), "total_steps": "200"}


def test_a_report_is_shown_as_progress_and_metrics() -> None:
    status = applied(Status(), report(), JOB)
    assert status.progress is not None
    assert status.progress.model_dump(mode="json", by_alias=True) == {
        "percent": 42,
        "step": 84,
        "totalSteps": 200,
        "checkpointStep": 80,
        "epoch": "0.42",
        "tokensPerSecond": "2310",
        "etaSeconds": 310,
        "at": to_text(NOW),
        "display": {"percent": "42%", "step": "84/200"},
    }
    assert status.metrics == {
        "loss": "1.93",
        "validationLoss": "2.5",
        "learningRate": "0.0002",
        "gradNorm": "0.7",
    }


def test_a_report_of_another_attempt_is_not_this_ones() -> None:
    assert applied(Status(), report(job="demo-train-0"), JOB) == Status()
    assert applied(Status(), None, JOB) == Status()


def test_the_same_report_changes_nothing_the_second_time() -> None:
    once = applied(Status(), report(), JOB)
    assert applied(once, report(), JOB) is once


def test_the_percentage_follows_from_the_step_when_it_is_not_told() -> None:
    status = applied(Status(), report(percent=None), JOB)
    assert status.progress is not None
    assert status.progress.percent == 42


@pytest.mark.parametrize(
    ("metrics", "shown"),
    [
        ({}, (None, None)),
        ({"current_step": "7"}, ("7", 7)),
        ({"current_step": "nan", "total_steps": "inf"}, (None, None)),
        ({"current_step": "7", "total_steps": "-1"}, ("7", 7)),
    ],
)
def test_numbers_that_are_none_are_left_out(metrics: dict[str, str], shown: Any) -> None:
    progress = applied(Status(), report(metrics=metrics), JOB).progress
    assert progress is not None
    assert progress.display is not None
    assert (progress.display.step, progress.step) == shown


def test_any_metric_is_kept_as_text_and_rare_ones_stay() -> None:
    before = Status(metrics={"validationLoss": "2.5", "loss": "9"})
    status = applied(before, report(metrics={"loss": "nan", "router_z_loss": "inf"}), JOB)
    assert status.metrics == {"loss": "nan", "routerZLoss": "inf", "validationLoss": "2.5"}


def test_there_are_never_more_metrics_than_the_schema_takes() -> None:
    before = Status(metrics={f"old{number}": "1" for number in range(16)})
    many = {f"m{number}": "x" * 64 for number in range(16)}
    status = applied(before, report(metrics=many), JOB)
    assert set(status.metrics) == set(many)


@pytest.mark.parametrize(
    ("old", "expected"),
    [
        # Nothing to compare with: what the client says.
        (None, 310),
        (Progress(step=64, at=to_text(NOW)), 58),
        (Progress(step=64, at=to_text(NOW), eta_seconds=68), 58),
        (Progress(step=64, at=to_text(NOW), eta_seconds=110), 79),
        # No step since, or fewer: it resumed from a checkpoint.
        (Progress(step=84, at=to_text(NOW)), 310),
        (Progress(step=100, at=to_text(NOW)), 310),
        # From the attempt before: the time in between was not spent on steps.
        (Progress(step=64, at=to_text(later(-60))), 310),
    ],
)
def test_the_time_left_follows_from_the_pace_that_was_measured(
    old: Progress | None, expected: int
) -> None:
    progress = applied(Status(progress=old), report(10), JOB).progress
    assert progress is not None
    assert progress.eta_seconds == expected
