"""What kopf calls: every handler hands over to the engine and returns; none waits or decides."""

from __future__ import annotations

import asyncio
from typing import Any

import kopf

from finetune_operator.kube.auth import Credentials
from finetune_operator.kube.resources import JOBS
from finetune_operator.runtime.engine import Engine, Unhealthy
from finetune_operator.runtime.kinds import FINETUNEJOBS
from finetune_operator.shell.login import connection


def registry(engine: Engine, credentials: Credentials) -> kopf.OperatorRegistry:
    """The handlers of one operator."""
    made = kopf.OperatorRegistry()
    runs = (FINETUNEJOBS.group, FINETUNEJOBS.version, FINETUNEJOBS.plural)
    jobs = (JOBS.group, JOBS.version, JOBS.plural)

    # Handlers return None: kopf would write anything else to status.
    @kopf.on.event(*runs, registry=made)
    async def run_changed(event: Any, **_: Any) -> None:
        engine.see_run(event["type"], event["object"])

    @kopf.on.event(*jobs, registry=made)
    async def job_changed(event: Any, **_: Any) -> None:
        engine.see_job(event["type"], event["object"])

    @kopf.on.login(registry=made)
    async def login(**_: Any) -> kopf.ConnectionInfo:
        return await connection(credentials)

    @kopf.on.probe(registry=made, id="health")
    async def health(**_: Any) -> str:
        engine.check()
        _check_watches()
        return "ok"

    # kopf waits for tasks that were not stopped.
    @kopf.on.cleanup(registry=made)
    async def cleanup(**_: Any) -> None:
        await engine.stop()

    return made


def _check_watches() -> None:
    """Unhealthy unless both kinds are watched; kopf names its tasks after them."""
    names = [task.get_name() for task in asyncio.all_tasks() if not task.done()]
    for plural in (FINETUNEJOBS.plural, JOBS.plural):
        if not any(name.startswith(f"watcher for {plural}.") for name in names):
            raise Unhealthy(f"{plural} are not watched")
