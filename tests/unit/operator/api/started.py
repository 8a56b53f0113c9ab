"""Changes to a run that has started: what the API server must refuse and what it must allow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from unit.operator.api.jobs import ABSENT, Json, job

_BEFORE: Json = {
    "spec.merge": {},
    "spec.upload": {"repository": "acme/result", "tokenSecretRef": {"name": "hf-write"}},
    "spec.rerunToken": "first",
}


@dataclass(frozen=True)
class Change:
    """A change to the spec and the run-defining fields that it touches."""

    sentence: str
    changes: Mapping[str, Any]
    fields: tuple[str, ...] = ()
    before: Mapping[str, Any] = field(default_factory=dict)
    started: bool = True

    @property
    def old(self) -> Json:
        old = job({**_BEFORE, **self.before})
        return {**old, "status": {"planHash": "0f4c2b6a9d31"}} if self.started else old

    @property
    def new(self) -> Json:
        return job(self.changes, base=self.old)

    def __str__(self) -> str:
        return self.sentence


REFUSED = (
    Change("another model", {"spec.model.source": "hf://acme/other"}, ("model",)),
    Change("a revision added", {"spec.model.revision": "v2"}, ("model",)),
    Change("another split", {"spec.dataset.split": "test"}, ("dataset",)),
    Change(
        "one data set more",
        {
            "spec.dataset": ABSENT,
            "spec.datasets": [{"source": "hf://acme/a", "format": {"text": {}}}] * 2,
        },
        ("dataset", "datasets"),
    ),
    Change(
        "another task",
        {"spec.task": "Preference", "spec.dataset.format": {"preference": {}}},
        ("task", "dataset"),
    ),
    Change("another rank", {"spec.method.lora.rank": 8}, ("method",)),
    Change(
        "another method", {"spec.method": {"full": {}}, "spec.merge": ABSENT}, ("method", "merge")
    ),
    Change("another batch size", {"spec.training.sequencesPerStep": 4}, ("training",)),
    Change("another seed", {"spec.training.seed": 1}, ("training",)),
    Change("a tracker added", {"spec.tracking": {"tensorboard": {}}}, ("tracking",)),
    Change("more GPUs", {"spec.resources.gpusPerNode": 8}, ("resources",)),
    Change("another strategy", {"spec.parallelism.strategy": "FSDP"}, ("parallelism",)),
    Change("a merge removed", {"spec.merge": ABSENT}, ("merge",)),
    Change("a merge added", {"spec.merge": {}}, ("merge",), before={"spec.merge": None}),
    Change("an upload removed", {"spec.upload": ABSENT}, ("upload",)),
    Change("another repository", {"spec.upload.repository": "acme/other"}, ("upload",)),
    Change("a larger volume", {"spec.storage.size": "1Ti"}, ("storage",)),
    Change("another image", {"spec.trainer.image": "acme/trainer:2"}, ("trainer",)),
    Change(
        "two fields at once",
        {"spec.training.epochs": 2, "spec.resources.memory": "1Gi"},
        ("training", "resources"),
    ),
    Change(
        "a rerun token that was there before",
        {"spec.rerunToken": "first", "spec.training.epochs": 2},
        ("training",),
    ),
    Change(
        "a rerun token removed",
        {"spec.rerunToken": ABSENT, "spec.training.epochs": 2},
        ("training",),
    ),
)

ALLOWED = (
    Change("suspending", {"spec.suspend": True}),
    Change("other patience", {"spec.runPolicy.stallSeconds": 600}),
    Change("other nodes", {"spec.scheduling.nodeSelector": {"zone": "b"}}),
    Change("a new rerun token", {"spec.rerunToken": "second"}),
    Change("a label", {"metadata.labels": {"team": "a"}}),
    Change("the same spec with its defaults written out", {"spec.training.seed": 0}),
    Change(
        "another rank with a new rerun token",
        {"spec.rerunToken": "second", "spec.method.lora.rank": 8},
    ),
    Change(
        "everything with a first rerun token",
        {
            "spec.rerunToken": "first",
            "spec.model.source": "hf://acme/other",
            "spec.dataset.source": "hf://acme/other",
            "spec.method": {"full": {}},
            "spec.merge": ABSENT,
            "spec.upload": ABSENT,
            "spec.training.epochs": 2,
            "spec.resources.nodes": 2,
            "spec.storage.size": "1Ti",
            "spec.trainer.image": "acme/trainer:2",
        },
        before={"spec.rerunToken": None},
    ),
    Change("another rank before the start", {"spec.method.lora.rank": 8}, started=False),
)
