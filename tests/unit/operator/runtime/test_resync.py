"""The resync that goes on; what it lists is tested with a real API server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from finetune_operator.kube.client import Client
from finetune_operator.kube.errors import Transient
from finetune_operator.runtime import resync
from finetune_operator.runtime.memory import Memories
from finetune_operator.runtime.queue import Queue
from finetune_operator.runtime.reports import Reports
from finetune_operator.runtime.store import Key, Store


class Lists:
    """A client whose lists fail in turn, then are empty."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.listed = asyncio.Event()

    async def list_pages(self, *_: Any, **__: Any) -> AsyncIterator[dict[str, Any]]:
        if self.failures:
            raise self.failures.pop(0)
        self.listed.set()
        yield {"metadata": {"resourceVersion": "1"}, "items": []}


async def test_no_failure_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resync, "SECOND_AFTER", 0.0)
    monkeypatch.setattr(resync, "EVERY", 0.0)
    lists = Lists(Transient("busy"), RecursionError("deep"), KeyError("uid"))
    resynced = asyncio.Event()
    queue: Queue[Key] = Queue(group=lambda key: key[0])
    forever = asyncio.create_task(
        resync.Resync(
            cast(Client, lists),
            store=Store(),
            queue=queue,
            memories=Memories(),
            reports=Reports(),
            namespaces=(),
            listed=resynced.set,
        ).forever()
    )
    try:
        await asyncio.wait_for(lists.listed.wait(), timeout=30)
        await asyncio.wait_for(resynced.wait(), timeout=30)
        assert not forever.done()
    finally:
        forever.cancel()
