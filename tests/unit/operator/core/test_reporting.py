from __future__ import annotations

import json
from typing import Any

import pytest

from finetune_operator.core.reporting import BadReport, parse
from unit.operator.builders import NOW


def body(**status: Any) -> bytes:
    return json.dumps({"trainerStatus": status}).encode()


def metric(name: str, value: Any) -> dict[str, Any]:
    return {"name": name, "value": value}


def test_what_transformers_sends_is_understood() -> None:
    report = parse(
        body(
            lastUpdatedTime="2026-01-31T12:00:00+00:00",
            progressPercentage=42,
            estimatedRemainingSeconds=310,
            metrics=[metric("current_step", "84"), metric("loss", "nan")],
        ),
        job="demo-train-1",
        now=NOW,
    )
    assert (report.percent, report.eta_seconds, report.job) == (42, 310, "demo-train-1")
    assert report.metrics == {"current_step": "84", "loss": "nan"}


def test_everything_is_optional_and_unknown_keys_are_ignored() -> None:
    report = parse(body(mood="good"), job="j", now=NOW)
    assert (report.percent, report.metrics) == (None, {})


def test_metrics_are_bounded() -> None:
    long = [metric("x" * 65, "1"), metric("y", "1" * 65)]
    many = [metric(f"m{number}", "1") for number in range(20)]
    report = parse(body(metrics=long + many), job="j", now=NOW)
    assert list(report.metrics) == [f"m{number}" for number in range(16)]


@pytest.mark.parametrize(
    ("sent", "complaint"),
    [
        (b"", "body"),
        (b"[]", "body"),
        (b"{}", "trainerStatus"),
        (body(progressPercentage=101), r"trainerStatus\.progressPercentage"),
        (body(progressPercentage="42"), r"trainerStatus\.progressPercentage"),
        (body(estimatedRemainingSeconds=-1), r"trainerStatus\.estimatedRemainingSeconds"),
        (body(metrics=[metric("loss", 1.5)]), r"trainerStatus\.metrics\.0\.value"),
        (body(metrics={"loss": "1"}), r"trainerStatus\.metrics"),
    ],
)
def test_anything_else_is_refused_with_its_place(sent: bytes, complaint: str) -> None:
    with pytest.raises(BadReport, match=rf"^{complaint}"):
        parse(sent, job="j", now=NOW)
