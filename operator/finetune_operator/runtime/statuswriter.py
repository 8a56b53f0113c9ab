"""The one write of status that follows a decision, and the events that tell of it.

What status says is decided in core; when mere progress is due, in throttle.py.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from typing import Any

from finetune_operator.api.resource import FineTuneJob, Metadata
from finetune_operator.api.status import Status
from finetune_operator.core.model import Decision, Event
from finetune_operator.kube.client import Client
from finetune_operator.kube.errors import AlreadyExists, ApiError, Conflict
from finetune_operator.runtime import events
from finetune_operator.runtime.kinds import FINETUNEJOBS
from finetune_operator.runtime.memory import Memory, Untold
from finetune_operator.runtime.merge import merge_patch
from finetune_operator.runtime.store import RunEntry, Store
from finetune_operator.runtime.throttle import delay_of_write

Json = dict[str, Any]

log = logging.getLogger(__name__)

# More than one write of status ever tells.
FAULT = 99


class StatusWriter:
    """Writes a decision's status if it differs from what is there."""

    def __init__(self, client: Client, store: Store) -> None:
        self._client = client
        self._store = store

    async def write(
        self, resource: FineTuneJob, entry: RunEntry, decision: Decision, memory: Memory
    ) -> tuple[bool, float | None]:
        """Whether status was written, and if it is not due yet, in how many seconds it is.

        The write holds only for the version that was decided on: Conflict if it is not the latest.
        """
        old, new = entry.status(), as_json(decision.status)
        untold, memory.untold = memory.untold, None
        if untold is not None and untold.status == old:
            await self._tell(resource, untold.events, entry.version)
        patch = merge_patch(old, new)
        if not patch:
            return False, None
        now = asyncio.get_running_loop().time()
        since = None if memory.written_at is None else now - memory.written_at
        delay = delay_of_write(old, new, since)
        if delay > 0:
            return False, delay
        about = resource.metadata
        body = {"metadata": {"resourceVersion": str(entry.version)}, "status": patch}
        try:
            answer = await self._client.patch_status(
                FINETUNEJOBS, about.namespace, about.name, body
            )
        except Conflict:
            memory.untold = Untold(new, decision.events)
            raise
        memory.written_at = now
        self._store.put_run(answer)
        await self._tell(resource, decision.events, int(answer["metadata"]["resourceVersion"]))
        return True, None

    async def tell_fault(self, entry: RunEntry, event: Event) -> None:
        """Post an event about a look that came to no decision: once for a version of the run."""
        about = FineTuneJob.model_validate_json(entry.document).metadata
        await self._post(about, event, entry.version, FAULT)

    async def _tell(self, resource: FineTuneJob, told: tuple[Event, ...], version: int) -> None:
        for index, event in enumerate(told):
            await self._post(resource.metadata, event, version, index)

    async def _post(self, about: Metadata, event: Event, version: int, index: int) -> None:
        manifest = events.manifest(
            event, about=about, version=version, index=index, now=datetime.now(UTC)
        )
        try:
            await self._client.create_event(about.namespace, manifest)
        except AlreadyExists:
            return
        except ApiError as error:
            # Status or the log holds the same sentence, so a lost event is no reason to fail.
            log.warning("%s/%s: event not posted: %s", about.namespace, about.name, error)


def as_json(status: Status) -> Json:
    """The status as the API server stores it: no nulls, nothing empty."""
    document = status.model_dump(mode="json", by_alias=True, exclude_none=True)
    return {field: value for field, value in document.items() if value not in ({}, [])}
