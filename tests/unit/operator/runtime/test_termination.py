from __future__ import annotations

import json

from finetune_operator.core.model import Termination
from finetune_operator.runtime.termination import explain
from unit.operator.runtime.manifests import condition, pod


def said(message: str) -> str:
    return json.dumps({"message": message})


def test_a_success_is_told_by_pod_0() -> None:
    pods = [
        pod("Succeeded", 0, said("rank 1"), index=1),
        pod("Succeeded", 0, said("rank 0"), index=0),
    ]
    found = explain(pods, succeeded=True)
    assert (found.exit_code, found.document) == (0, {"message": "rank 0"})


def test_a_failure_is_told_by_the_pod_that_failed_first() -> None:
    pods = [
        pod(exit_code=11, message=said("peer lost"), finished="2026-01-31T12:00:09Z", name="late"),
        pod(exit_code=12, message=said("out of memory"), finished="2026-01-31T12:00:03Z", name="b"),
        pod("Running", name="alive"),
    ]
    found = explain(pods, succeeded=False)
    assert (found.exit_code, found.document, found.node) == (
        12,
        {"message": "out of memory"},
        "node-of-b",
    )


def test_of_two_in_the_same_second_the_one_that_says_why_counts() -> None:
    pods = [pod(exit_code=143), pod(exit_code=10, message=said("no column"))]
    assert explain(pods, succeeded=False).exit_code == 10


def test_an_evicted_pod_has_no_container_to_speak_for_it() -> None:
    evicted = pod()
    evicted["status"].update(reason="Evicted", message="low on memory")
    found = explain([evicted], succeeded=False)
    assert (found.exit_code, found.pod_reason, found.pod_message) == (
        None,
        "Evicted",
        "low on memory",
    )


def test_a_disruption_is_told_by_the_condition() -> None:
    disrupted = condition(
        "DisruptionTarget",
        reason="PreemptionByScheduler",
        message="preempted for another",
        lastTransitionTime="2026-01-31T12:00:00Z",
    )
    found = explain([pod(exit_code=143, conditions=(disrupted,))], succeeded=False)
    assert (found.pod_reason, found.pod_message) == (
        "PreemptionByScheduler",
        "preempted for another",
    )


def test_a_crash_is_quoted_when_there_is_nothing_better() -> None:
    found = explain([pod(exit_code=1, message="x" * 1000 + "\nKeyError: 'a'")], succeeded=False)
    assert found.document == {}
    assert found.pod_message.endswith("KeyError: 'a'")
    assert len(found.pod_message) <= 500


def test_pods_that_are_gone_leave_nothing() -> None:
    assert explain([], succeeded=False) == Termination()


def test_a_message_nested_without_end_is_no_document() -> None:
    found = explain([pod(exit_code=10, message="[" * 4096)], succeeded=False)
    assert (found.exit_code, found.document) == (10, {})
