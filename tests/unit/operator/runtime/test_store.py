from __future__ import annotations

import pytest

from finetune_operator.runtime.store import Store
from finetune_operator.vocabulary import ANNOTATION_CHECKPOINT
from unit.operator.runtime.manifests import KEY, NAMESPACE, condition, job, run

TIME = "2026-01-31T12:00:00Z"


def test_a_run_is_news_once() -> None:
    store = Store()
    assert store.put_run(run(version=5)) == KEY
    assert store.put_run(run(version=5)) is None
    entry = store.run(KEY)
    assert entry is not None
    assert entry.resource().spec.model.source == "hf://acme/base"


def test_older_versions_are_not_taken_in() -> None:
    store = Store()
    store.put_run(run(version=10, status={"phase": "Training"}))
    assert store.put_run(run(version=9)) is None
    entry = store.run(KEY)
    assert entry is not None
    assert entry.status() == {"phase": "Training"}


def test_versions_are_numbers() -> None:
    store = Store()
    store.put_run(run(version=9))
    assert store.put_run(run(version=10)) == KEY


def test_metadata_that_no_decision_uses_takes_no_memory() -> None:
    store = Store()
    manifest = run(uid="run-9", version=7)
    manifest["metadata"] |= {
        "annotations": {"a": "x" * 200_000},
        "labels": {"b": "y"},
        "generation": 3,
        "deletionTimestamp": "2026-01-31T12:00:00Z",
    }
    store.put_run(manifest)
    entry = store.run(KEY)
    assert entry is not None
    assert len(entry.document) < 2000
    kept = entry.resource().metadata
    assert (kept.uid, kept.resource_version, kept.generation) == ("run-9", "7", 3)
    assert kept.deletion_timestamp == "2026-01-31T12:00:00Z"


def test_of_the_annotations_a_request_for_a_checkpoint_is_kept() -> None:
    store = Store()
    manifest = run()
    manifest["metadata"]["annotations"] = {ANNOTATION_CHECKPOINT: TIME, "a": "x" * 200_000}
    store.put_run(manifest)
    entry = store.run(KEY)
    assert entry is not None
    assert entry.checkpoint_requested_at == TIME
    assert entry.resource().metadata.annotations == {ANNOTATION_CHECKPOINT: TIME}


def test_a_request_that_is_none_is_kept_only_as_far_as_it_takes_to_say_so() -> None:
    store = Store()
    manifest = run()
    manifest["metadata"]["annotations"] = {ANNOTATION_CHECKPOINT: "x" * 200_000}
    store.put_run(manifest)
    entry = store.run(KEY)
    assert entry is not None
    assert entry.checkpoint_requested_at is None
    assert len(entry.document) < 2000
    assert entry.resource().metadata.annotations[ANNOTATION_CHECKPOINT].startswith("xxx")


def test_text_takes_no_more_memory_than_it_has_bytes() -> None:
    store = Store()
    manifest = run(status={"message": "😀" * 1000})
    store.put_run(manifest)
    entry = store.run(KEY)
    assert entry is not None
    assert len(entry.document) < 6000
    assert entry.status() == manifest["status"]


def test_a_late_deletion_does_not_remove_the_next_of_that_name() -> None:
    store = Store()
    store.put_run(run(uid="new", version=20))
    assert store.drop_run(run(uid="old", version=15)) is None
    assert store.run(KEY) is not None


def test_a_late_answer_does_not_bring_back_what_was_deleted() -> None:
    store = Store()
    store.put_run(run())
    store.drop_run(run(version=2))
    store.put_run(run(version=1))
    store.drop_job(job(version=2))
    store.put_job(job(version=1))
    assert store.run(KEY) is None
    assert store.jobs_of(NAMESPACE, "run-1") == ()


def test_a_job_is_found_by_its_owner_and_is_news_of_its_run() -> None:
    store = Store()
    assert store.put_job(job()) == KEY
    assert [record.name for record in store.jobs_of(NAMESPACE, "run-1")] == ["demo-train-1"]
    assert store.jobs_of(NAMESPACE, "another") == ()


def test_a_change_that_no_decision_depends_on_is_no_news() -> None:
    store = Store()
    store.put_job(job(version=1, status={"ready": 1}))
    assert store.put_job(job(version=2, status={"ready": 2})) is None
    assert store.put_job(job(version=3, status={"conditions": [condition("Complete")]})) == KEY


def test_a_job_made_again_under_its_name_belongs_to_its_new_owner() -> None:
    store = Store()
    store.put_job(job(uid="a", owner="run-1", version=1))
    store.put_job(job(uid="b", owner="run-2", version=5))
    assert store.jobs_of(NAMESPACE, "run-1") == ()
    assert [record.uid for record in store.jobs_of(NAMESPACE, "run-2")] == ["b"]


def test_ghosts_are_dropped() -> None:
    store = Store()
    store.put_run(run(version=1))
    store.put_job(job(version=1))
    assert store.prune_runs(set(), version=5) == [KEY]
    assert store.prune_jobs(set(), version=5) == [KEY]
    assert store.run(KEY) is None
    assert store.jobs_of(NAMESPACE, "run-1") == ()


def test_what_is_younger_than_the_list_is_no_ghost() -> None:
    store = Store()
    store.put_run(run(version=9))
    store.put_job(job(version=9))
    assert store.prune_runs(set(), version=5) == []
    assert store.prune_jobs(set(), version=5) == []


def test_the_memory_of_deletions_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finetune_operator.runtime.store.GONE_KEPT", 2)
    store = Store()
    for number in range(5):
        store.drop_run(run(uid=f"old-{number}"))
    assert store.put_run(run(uid="old-0")) == KEY
    assert store.put_run(run(uid="old-4", version=2)) is None


def test_a_job_in_another_namespace_is_nobodys_whatever_owner_it_names() -> None:
    store = Store()
    store.put_job(job(namespace="team-b"))
    assert store.jobs_of(NAMESPACE, "run-1") == ()
    store.drop_job(job(namespace="team-b", version=2))
    assert store.jobs_of("team-b", "run-1") == ()
