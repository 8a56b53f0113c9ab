"""What cannot be caused at will on a real API server, where all else of the reconciler is seen: a
fault of the operator, and a Job that is gone at the wrong moment. The decisions are mocks.
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any, cast

import pytest

from finetune_operator.core.model import Decision, DeleteJob, Observed
from finetune_operator.kube.client import Client
from finetune_operator.runtime.actions import Actions
from finetune_operator.runtime.memory import Memories
from finetune_operator.runtime.meter import Meter
from finetune_operator.runtime.observer import Observer
from finetune_operator.runtime.queue import Queue
from finetune_operator.runtime.reconciler import Decide, Reconciler
from finetune_operator.runtime.statuswriter import StatusWriter
from finetune_operator.runtime.store import Key, Store
from unit.operator.runtime.manifests import KEY, job, run


class Cluster:
    """Takes events; there is nothing to observe in it, and a Job may be gone when it is deleted."""

    def __init__(self, *, gone: bool = False) -> None:
        self.store = Store()
        self.store.put_run(run(7))
        self.told: list[dict[str, Any]] = []
        self._gone = gone

    async def create_event(self, _: str, event: dict[str, Any]) -> None:
        self.told.append(event)

    async def observe(self, *_: Any) -> tuple[None, None]:
        return None, None

    async def carry_out(self, *_: Any) -> None:
        if self._gone:
            self.store.drop_job(job())


def reconciler(cluster: Cluster, queue: Queue[Key], decide: Decide) -> Reconciler:
    return Reconciler(
        store=cluster.store,
        queue=queue,
        memories=Memories(),
        observer=cast(Observer, cluster),
        actions=cast(Actions, cluster),
        writer=StatusWriter(cast(Client, cluster), cluster.store),
        decide=decide,
        meter=Meter(),
    )


def a_queue() -> Queue[Key]:
    return Queue(group=lambda key: key[0])


@pytest.mark.parametrize(("gone", "again"), [(True, 0.0), (False, None)])
async def test_a_run_is_looked_at_again_at_once_only_if_no_watch_will_tell_of_a_jobs_end(
    gone: bool, again: float | None
) -> None:
    cluster = Cluster(gone=gone)
    cluster.store.put_job(job())

    def stop_it(_: Observed, __: datetime) -> Decision:
        entry, stopped = cluster.store.run(KEY), job()["metadata"]
        assert entry is not None
        return Decision((DeleteJob(stopped["name"], stopped["uid"]),), entry.resource().status)

    assert await reconciler(cluster, a_queue(), stop_it).reconcile(KEY) == again


def at_fault(_: Observed, __: datetime) -> Decision:
    raise StopIteration


async def test_a_fault_of_the_operator_is_told_on_the_run() -> None:
    cluster, queue = Cluster(), a_queue()
    worker = asyncio.create_task(reconciler(cluster, queue, at_fault).work())
    queue.add(KEY)
    while not cluster.told:
        await asyncio.sleep(0.01)
        assert not worker.done()
    worker.cancel()
    [event] = cluster.told
    assert (event["type"], event["reason"]) == ("Warning", "InternalError")
    assert event["message"].startswith("This is a fault of the operator (RuntimeError)")
    assert event["metadata"]["name"].endswith(".7.99")
