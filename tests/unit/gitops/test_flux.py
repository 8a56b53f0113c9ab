"""What Flux waits for: its own kstatus library reads a FineTuneJob rightly in every state."""

from __future__ import annotations

import re

import cel
import pytest
import yaml

from cluster.tools import GitOps
from unit.gitops import phases
from unit.gitops.argocd import ROOT, Json

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


def documented() -> Json:
    """The check of docs/gitops.md by which a suspended run counts as done."""
    [block] = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "gitops.md").read_text(), re.DOTALL)
    [check] = yaml.safe_load(block)["spec"]["healthCheckExprs"]
    return dict(check)


@pytest.mark.parametrize("name", phases.NAMES)
def test_the_documented_check_differs_for_a_suspended_run_alone(name: str) -> None:
    found, check = phases.named(name), documented()
    # Flux asks in this order and takes the first that holds.
    states = (("inProgress", "InProgress"), ("failed", "Failed"), ("current", "Current"))
    read = next((state for key, state in states if cel.evaluate(check[key], found)), "InProgress")
    assert read == ("Current" if name.startswith("suspended") else EXPECTED[name])


def test_the_example_waits_for_its_runs_and_never_forces() -> None:
    example = yaml.safe_load((ROOT / "manifests" / "flux" / "runs.yaml").read_text())
    assert example["spec"]["wait"] is True
    assert "force" not in example["spec"]
