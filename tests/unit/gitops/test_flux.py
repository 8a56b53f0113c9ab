"""What Flux waits for: its own kstatus library reads a FineTuneJob rightly in every state."""

from __future__ import annotations

import pytest

from cluster.tools import GitOps
from unit.gitops import phases

EXPECTED = {
    "untouched": "InProgress",
    "pending": "InProgress",
    "preparing": "InProgress",
    "training": "InProgress",
    "queued": "InProgress",
    "unschedulable": "InProgress",
    "retrying": "InProgress",
    "merging": "InProgress",
    "uploading": "InProgress",
    # kstatus has no word for it; what is not there yet is not Current.
    "suspended": "InProgress",
    "suspended-from-start": "InProgress",
    "succeeded": "Current",
    "failed": "Failed",
    # Nobody has looked at the new spec yet.
    "failed-and-changed": "InProgress",
    "succeeded-and-changed": "InProgress",
}


def test_every_state_is_looked_at() -> None:
    assert set(EXPECTED) == set(phases.NAMES)


@pytest.mark.parametrize("name", phases.NAMES)
def test_kstatus_reads(gitops: GitOps, name: str) -> None:
    assert gitops.kstatus(phases.named(name)) == EXPECTED[name]


def test_a_run_that_is_being_deleted_is_terminating(gitops: GitOps) -> None:
    found = phases.named("training")
    found["metadata"]["deletionTimestamp"] = "2026-01-31T12:30:00Z"
    assert gitops.kstatus(found) == "Terminating"
