"""Whether all that must be watched is watched: kopf starts no watch again that has ended.

Only the names of kopf's tasks tell; what a dead watch means for the process is run.py's matter.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from finetune_operator.kube.resources import JOBS
from finetune_operator.runtime.kinds import FINETUNEJOBS

CHECK_SECONDS = 5.0


class WatchDied(Exception):
    """The operator hears nothing any more; the message says of what."""


def expected(namespaces: Sequence[str]) -> list[str]:
    """What must be watched."""
    return [
        f"{kind.plural}.{kind.version}.{kind.group}@{namespace}"
        for kind in (FINETUNEJOBS, JOBS)
        for namespace in (namespaces or (None,))
    ]


def missing(namespaces: Sequence[str]) -> list[str]:
    """What is not watched now though it must be."""
    alive = {task.get_name() for task in asyncio.all_tasks() if not task.done()}
    return [what for what in expected(namespaces) if f"watcher for {what}" not in alive]


async def until_one_dies(namespaces: Sequence[str]) -> str:
    """What is not watched any more, as soon as that is so."""
    while missing(namespaces):
        await asyncio.sleep(CHECK_SECONDS)
    while True:
        await asyncio.sleep(CHECK_SECONDS)
        for what in missing(namespaces):
            return what
