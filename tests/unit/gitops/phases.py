"""A FineTuneJob in every state that a GitOps tool may find it in, as the core leaves it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from finetune_operator.api.crdgen import UNSEEN
from finetune_operator.core.model import CreateClaim, JobState, Refusal, Report, Waiting
from finetune_operator.runtime.statuswriter import as_json
from finetune_operator.vocabulary import API_VERSION, KIND, RefusalReason
from unit.operator.builders import MINIMAL, RUN, UID, merged
from unit.operator.world import World

Json = dict[str, Any]


def resource(world: World, **metadata: Any) -> Json:
    """The world's FineTuneJob as an API server gives it."""
    made: Json = {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {
            "name": RUN,
            "namespace": "team-a",
            "uid": UID,
            "generation": world.generation,
            **metadata,
        },
        "spec": merged(MINIMAL, world.changes),
    }
    status = as_json(world.status)
    if "planHash" in status:
        # Whatever becomes part of a plan, what is written in files stays.
        status["planHash"] = "0f4c2b6a9d31"
    return {**made, "status": status or UNSEEN}


def _preparing(**changes: Any) -> World:
    world = World(**changes)
    world.settle()
    return world


def _pending() -> World:
    world = World()
    taken = "PersistentVolumeClaim demo-workspace belongs to somebody else: rename the run."
    world.refuse = {CreateClaim: Refusal(RefusalReason.NAME_COLLISION, taken, final=False)}
    world.settle()
    return world


def _to_stage(stage: str) -> World:
    world = _preparing()
    while world.only_live().stage != stage:
        world.succeed("Done.")
        world.settle()
    world.become(world.only_live().name, JobState.RUNNING)
    world.settle()
    return world


def _training() -> World:
    world = _to_stage("train")
    metrics = {"current_step": "84", "total_steps": "200", "loss": "1.93"}
    world.seconds = 900
    world.report = Report(world.only_live().name, world.now, 42, 1290, metrics)
    world.settle()
    return world


def _with_train(state: JobState) -> World:
    world = _to_stage("train")
    world.become(world.only_live().name, state)
    world.settle()
    return world


def _unschedulable() -> World:
    world = _with_train(JobState.WAITING)
    name = world.only_live().name
    world.waiting = {name: Waiting("Unschedulable", "0/4 nodes: 4 Insufficient nvidia.com/gpu.")}
    world.settle()
    return world


def _retrying() -> World:
    world = _to_stage("train")
    world.fail(11, "The Hub did not answer.")
    world.look()
    return world


def _suspended() -> World:
    world = _training()
    world.edit(suspend=True)
    world.settle()
    world.gone()
    world.settle()
    return world


def _succeeded() -> World:
    world = _to_stage("upload")
    world.succeed("Published.", {"repository": "acme/tuned", "commit": "0f4c2b6"})
    world.settle()
    return world


def _failed() -> World:
    world = _preparing()
    world.fail(10, 'dataset.format.questionAnswer.question names column "q", which is not there')
    world.settle()
    return world


def _changed(world: World) -> World:
    world.edit(runPolicy={"stallSeconds": 7200})
    return world


# name of the testdata: how it comes to be.
_MAKE: dict[str, Callable[[], World]] = {
    "untouched": World,
    "pending": _pending,
    "preparing": _preparing,
    "training": _training,
    "queued": lambda: _with_train(JobState.SUSPENDED),
    "unschedulable": _unschedulable,
    "retrying": _retrying,
    "merging": lambda: _to_stage("merge"),
    "uploading": lambda: _to_stage("upload"),
    "suspended": _suspended,
    "suspended-from-start": lambda: _preparing(suspend=True),
    "succeeded": _succeeded,
    "failed": _failed,
    "failed-and-changed": lambda: _changed(_failed()),
    "succeeded-and-changed": lambda: _changed(_succeeded()),
}
NAMES = tuple(_MAKE)


def named(name: str) -> Json:
    """The FineTuneJob of this name."""
    return resource(_MAKE[name]())


def every() -> Iterator[tuple[str, Json]]:
    """All of them, in the order of a life."""
    return ((name, named(name)) for name in _MAKE)
