"""Whose log is whose, and in which order."""

from __future__ import annotations

from typing import Any

from finetune_cli.podlogs import pod_logs, training_pods

Json = dict[str, Any]
INDEX = "batch.kubernetes.io/job-completion-index"


def pod(stage: str, attempt: int, rank: int | None = None, phase: str = "Running") -> Json:
    states: Json = {"Running": {"running": {}}, "Pending": {"waiting": {}}}
    state = states.get(phase, {"terminated": {}})
    name = f"run-{stage}-{attempt}" + ("" if rank is None else f"-{rank}")
    return {
        "metadata": {
            "name": name,
            "labels": {"finetune.dev/stage": stage, "finetune.dev/attempt": str(attempt)},
            "annotations": {} if rank is None else {INDEX: str(rank)},
        },
        "status": {"phase": phase, "containerStatuses": [{"state": state}]},
    }


PODS = [
    pod("train", 2, 1),
    pod("train", 10, 0, "Pending"),
    pod("train", 2, 0),
    pod("upload", 1, phase="Pending"),
    pod("train", 1, 0, "Failed"),
    pod("prepare", 1, phase="Succeeded"),
]


def test_logs_come_in_the_order_of_stages_attempts_and_ranks() -> None:
    assert [log.prefix for log in pod_logs(PODS)] == [
        "prepare-1",
        "train-1/0",
        "train-2/0",
        "train-2/1",
        "train-10/0",
        "upload-1",
    ]


def test_only_what_is_asked_for_is_taken() -> None:
    assert [log.prefix for log in pod_logs(PODS, stage="train", attempt=2)] == [
        "train-2/0",
        "train-2/1",
    ]
    assert [log.prefix for log in pod_logs(PODS, rank=1)] == ["train-2/1"]


def test_a_pod_that_has_not_started_has_no_log() -> None:
    assert [log.prefix for log in pod_logs(PODS) if not log.has_log] == ["train-10/0", "upload-1"]


def test_a_log_is_complete_when_its_pod_has_ended() -> None:
    assert [log.prefix for log in pod_logs(PODS) if log.ended] == ["prepare-1", "train-1/0"]


def test_the_curve_is_read_from_the_first_node_of_every_attempt() -> None:
    assert training_pods(PODS) == ["run-train-1-0", "run-train-2-0"]


def test_a_pod_without_our_labels_is_no_reason_to_fail() -> None:
    assert pod_logs([{"metadata": {"name": "stranger"}}])[0].prefix == "-0"
