"""Listing everything: at the start before any decision, then every few minutes.

A watch may lose events, deletions above all, without a word. What is listed is put into the store,
what is not is dropped.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

from finetune_operator.kube.client import Client
from finetune_operator.kube.errors import ApiError
from finetune_operator.kube.resources import JOBS, Resource
from finetune_operator.runtime.kinds import FINETUNEJOBS, OUR_JOBS
from finetune_operator.runtime.memory import Memories
from finetune_operator.runtime.queue import Queue
from finetune_operator.runtime.reports import Reports
from finetune_operator.runtime.store import Key, Store

Json = dict[str, Any]

log = logging.getLogger(__name__)

# Deletions between the first list and the start of the watches are seen by neither.
SECOND_AFTER = 30.0
EVERY = 300.0


class Resync:
    """Keeps the store complete, whatever the watches do."""

    def __init__(
        self,
        client: Client,
        *,
        store: Store,
        queue: Queue[Key],
        memories: Memories,
        reports: Reports,
        namespaces: Sequence[str],
        listed: Callable[[], None],
    ) -> None:
        self._client = client
        self._store = store
        self._queue = queue
        self._memories = memories
        self._reports = reports
        self._listed = listed
        self._namespaces: Sequence[str | None] = namespaces or (None,)

    async def once(self) -> None:
        """List all, forget ghosts, have every run looked at."""
        # Jobs last: a Job younger than the list of runs belongs to a run that the watch brings.
        uids, version = await self._list(FINETUNEJOBS, self._store.put_run)
        gone = self._store.prune_runs(uids, version)
        alive = self._store.uids()
        self._memories.keep_only(alive)
        self._reports.keep_only(alive)
        uids, version = await self._list(JOBS, self._store.put_job, labelSelector=OUR_JOBS)
        gone += self._store.prune_jobs(uids, version)
        if gone:
            log.info("Resync found %d objects gone that no watch had told of", len(gone))
        for key in self._store.runs():
            self._queue.add(key)
        self._listed()

    async def forever(self) -> None:
        """Repeat until cancelled."""
        delay = SECOND_AFTER
        while True:
            await asyncio.sleep(delay)
            try:
                await self.once()
            except ApiError as error:
                log.warning("Resync failed, the next is in %.0f s: %s", EVERY, error)
            except Exception:
                # Without resync nothing heals: one bad object must not end it.
                log.exception("Resync failed, the next is in %.0f s", EVERY)
            delay = EVERY

    async def _list(
        self, resource: Resource, put: Callable[[Json], Key | None], **query: str
    ) -> tuple[set[str], int]:
        """The uids listed, and the version up to which the lists are complete."""
        uids: set[str] = set()
        versions: list[int] = []
        for namespace in self._namespaces:
            async for page in self._client.list_pages(resource, namespace, **query):
                versions.append(int(page["metadata"]["resourceVersion"]))
                for item in page["items"]:
                    uids.add(item["metadata"]["uid"])
                    put(item)
        return uids, min(versions)
