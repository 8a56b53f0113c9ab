"""Of all labels of a FineTuneJob its Jobs take over Kueue's, and nothing else of it."""

from __future__ import annotations

from typing import Any

import pytest

from finetune_operator.build.manifests import Creation, manifest
from finetune_operator.core.model import CreateClaim, CreateJob, CreatePlan, CreateService, JobState
from finetune_operator.core.queueing import PRIORITY, QUEUE, queue_labels
from finetune_operator.core.renewal import is_due
from finetune_operator.core.template import template_hash
from finetune_operator.runtime.store import Store
from finetune_operator.vocabulary import Stage
from unit.operator.builders import SETTINGS, job, plan, resource
from unit.operator.runtime.manifests import KEY, run
from unit.operator.world import World

QUEUED = {QUEUE: "team", PRIORITY: "high"}
# By these a tool knows what it has applied, and prunes what its source does not have.
TRACKING = {
    "app.kubernetes.io/instance": "runs",
    "argocd.argoproj.io/instance": "runs",
    "kustomize.toolkit.fluxcd.io/name": "runs",
    "helm.sh/chart": "runs-1",
    "app.kubernetes.io/managed-by": "Helm",
    "team": "nlp",
}
CREATIONS: list[Creation] = [
    CreatePlan(plan()),
    CreateClaim(),
    CreateService(),
    *(CreateJob(stage, 1, plan()) for stage in Stage),
]


def built(creation: Creation, **labels: str) -> dict[str, Any]:
    return manifest(creation, resource(labels=labels), SETTINGS)


def test_without_a_queue_there_is_nothing_to_take_over() -> None:
    assert queue_labels({}) == queue_labels(TRACKING) == queue_labels({PRIORITY: "high"}) == {}


@pytest.mark.parametrize("stage", Stage)
def test_a_queued_run_has_its_jobs_wait_for_kueue(stage: Stage) -> None:
    made = built(CreateJob(stage, 1, plan()), **QUEUED, **TRACKING)
    assert made["spec"]["suspend"] is True
    assert QUEUED.items() <= made["metadata"]["labels"].items()
    assert QUEUED.keys().isdisjoint(made["spec"]["template"]["metadata"]["labels"])
    assert "suspend" not in built(CreateJob(stage, 1, plan()))["spec"]


@pytest.mark.parametrize("creation", CREATIONS, ids=lambda it: f"{it.__class__.__name__}")
def test_nothing_that_tracks_a_run_is_handed_down(creation: Creation) -> None:
    assert built(creation, **TRACKING) == built(creation)


def test_a_run_is_queued_from_the_first_look_on() -> None:
    world = World(labels=QUEUED)
    world.look()
    assert world.status.message == "prepare is queued: Job demo-prepare-1 is suspended."


def test_a_job_that_waits_moves_to_another_queue_and_one_that_runs_stays() -> None:
    before, after = resource(labels=QUEUED), resource(labels={QUEUE: "other"})
    for state, due in ((JobState.SUSPENDED, True), (JobState.RUNNING, False)):
        record = job("train", state=state, template_hash=template_hash(before, Stage.TRAIN))
        assert is_due(record, after, asked=False) is due
        assert not is_due(record, before, asked=False)


def test_jobs_of_before_there_were_queues_are_the_same_jobs() -> None:
    assert template_hash(resource(labels=TRACKING), Stage.TRAIN) == "82e81eff8fdb"


def test_of_labels_the_cache_keeps_the_queue_alone() -> None:
    manifest = run()
    manifest["metadata"]["labels"] = {**QUEUED, **TRACKING, "much": "x" * 100_000}
    store = Store()
    store.put_run(manifest)
    entry = store.run(KEY)
    assert entry is not None
    assert entry.resource().metadata.labels == QUEUED
    assert len(entry.document) < 2000
