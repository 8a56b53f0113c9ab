"""What a look that fails leaves behind. All else is seen on a real API server.

A fault of the operator cannot be caused from outside once it is known: the decision is a mock.
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any, cast

from finetune_operator.core.model import Decision, Observed
from finetune_operator.kube.client import Client
from finetune_operator.runtime.actions import Actions
from finetune_operator.runtime.memory import Memories
from finetune_operator.runtime.meter import Meter
from finetune_operator.runtime.observer import Observer
from finetune_operator.runtime.queue import Queue
from finetune_operator.runtime.reconciler import Reconciler
from finetune_operator.runtime.statuswriter import StatusWriter
from finetune_operator.runtime.store import Key, Store
from unit.operator.runtime.manifests import KEY, run


class Cluster:
    """Takes events; there is nothing to observe in it."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []

    async def create_event(self, _: str, event: dict[str, Any]) -> None:
        self.told.append(event)

    async def observe(self, *_: Any) -> tuple[None, None]:
        return None, None


def at_fault(_: Observed, __: datetime) -> Decision:
    raise StopIteration


async def test_a_fault_of_the_operator_is_told_on_the_run() -> None:
    cluster, store = Cluster(), Store()
    store.put_run(run(7))
    queue: Queue[Key] = Queue(group=lambda key: key[0])
    worker = asyncio.create_task(
        Reconciler(
            store=store,
            queue=queue,
            memories=Memories(),
            observer=cast(Observer, cluster),
            actions=cast(Actions, None),
            writer=StatusWriter(cast(Client, cluster), store),
            decide=at_fault,
            meter=Meter(),
        ).work()
    )
    queue.add(KEY)
    while not cluster.told:
        await asyncio.sleep(0.01)
        assert not worker.done()
    worker.cancel()
    [event] = cluster.told
    assert (event["type"], event["reason"]) == ("Warning", "InternalError")
    assert event["message"].startswith("This is a fault of the operator (RuntimeError)")
    assert event["metadata"]["name"].endswith(".7.99")
