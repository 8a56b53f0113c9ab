"""All moving parts of the operator, wired up: what watches tell goes in, API calls come out.

The watches themselves, probes and signals belong to the shell.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Sequence
from datetime import datetime
from operator import itemgetter
from typing import Any

from finetune_operator.core.decide import decide
from finetune_operator.core.model import Decision, Observed, Settings
from finetune_operator.kube.client import Client
from finetune_operator.kube.resources import JOBS
from finetune_operator.runtime.actions import Actions
from finetune_operator.runtime.bearer import Bearers
from finetune_operator.runtime.census import Census
from finetune_operator.runtime.kinds import FINETUNEJOBS
from finetune_operator.runtime.memory import Memories
from finetune_operator.runtime.meter import Meter
from finetune_operator.runtime.observer import Observer
from finetune_operator.runtime.progress import ProgressServer
from finetune_operator.runtime.queue import Queue
from finetune_operator.runtime.reconciler import Reconciler
from finetune_operator.runtime.reports import Reports
from finetune_operator.runtime.resync import Resync
from finetune_operator.runtime.statuswriter import StatusWriter
from finetune_operator.runtime.store import Key, Store

Json = dict[str, Any]

# Longer than the client's timeout times its attempts: such a look does not end by itself. How long
# keys wait says nothing: many runs are no illness.
LONGEST_LOOK = 180.0


class Unhealthy(Exception):
    """The operator should be restarted; the message says why."""


class Engine:
    """The operator without its connection to kopf."""

    def __init__(
        self,
        client: Client,
        settings: Settings,
        *,
        namespaces: Sequence[str],
        workers: int,
        meter: Meter,
    ) -> None:
        self._meter = meter
        self._settings = settings
        self._workers = workers
        self._tasks: list[asyncio.Task[None]] = []
        self.store = Store()
        # Namespaces take turns: one's flood of runs is not the others' wait.
        self.queue: Queue[Key] = Queue(group=itemgetter(0), waited=meter.waited)
        meter.registry.register(Census(self.store))
        memories, reports = Memories(), Reports()
        self.resync = Resync(
            client,
            store=self.store,
            queue=self.queue,
            memories=memories,
            reports=reports,
            namespaces=namespaces,
            listed=meter.resynced,
        )
        self.reconciler = Reconciler(
            store=self.store,
            queue=self.queue,
            memories=memories,
            observer=Observer(client, self.store, reports),
            actions=Actions(client, self.store, settings),
            writer=StatusWriter(client, self.store),
            decide=self._decide,
            meter=meter,
        )
        clock = asyncio.get_running_loop().time
        self.progress = ProgressServer(
            store=self.store,
            bearers=Bearers(client, self.store, clock),
            latest=reports,
            changed=self.queue.add_after,
        )

    async def start(self) -> None:
        """List everything, then work. ApiError if the first list fails."""
        await self.resync.once()
        for number in range(self._workers):
            self._spawn(f"worker {number}", self.reconciler.work())
        self._spawn("resync", self.resync.forever())

    async def serve_progress(self, port: int, context: ssl.SSLContext) -> None:
        """Take reports, on every address."""
        await self.progress.start(port, context)

    async def stop(self) -> None:
        """Stop working, wherever it is: the next start goes on from the facts."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self.queue.close()
        await self.progress.stop()

    def see_run(self, change: str | None, manifest: Json) -> None:
        """A FineTuneJob came, changed or went (DELETED)."""
        self._meter.told(FINETUNEJOBS.plural)
        if change == "DELETED":
            self.store.drop_run(manifest)
            return
        key = self.store.put_run(manifest)
        if key is not None:
            self.queue.add(key, urgent="status" not in manifest)

    def see_job(self, change: str | None, manifest: Json) -> None:
        """A stage Job came, changed or went (DELETED)."""
        self._meter.told(JOBS.plural)
        take_in = self.store.drop_job if change == "DELETED" else self.store.put_job
        key = take_in(manifest)
        if key is not None:
            ended = bool(manifest.get("status", {}).get("conditions"))
            self.queue.add(key, urgent=ended)

    def check(self) -> None:
        """Unhealthy if work does not get done."""
        for task in self._tasks:
            if task.done():
                raise Unhealthy(f"{task.get_name()} has ended")
        held = self.queue.held()
        if held > LONGEST_LOOK:
            raise Unhealthy(f"a worker has been busy with one run for {held:.0f} s")

    def _decide(self, observed: Observed, now: datetime) -> Decision:
        return decide(observed, self._settings, now)

    def _spawn(self, name: str, work: Any) -> None:
        self._tasks.append(asyncio.create_task(work, name=name))
