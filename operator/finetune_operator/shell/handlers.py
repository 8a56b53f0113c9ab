"""What kopf calls: every handler hands over to the engine and returns; none waits or decides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import kopf

from finetune_operator.kube.auth import Credentials
from finetune_operator.kube.resources import JOBS
from finetune_operator.runtime.engine import Engine, Unhealthy
from finetune_operator.runtime.kinds import FINETUNEJOBS
from finetune_operator.shell import watches
from finetune_operator.shell.login import connection


def registry(
    engine: Engine, credentials: Credentials, namespaces: Sequence[str]
) -> kopf.OperatorRegistry:
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

    # Permanent: an error is answered at once; kopf would hold the answer back and try again.
    @kopf.on.probe(registry=made, id="health", errors=kopf.ErrorsMode.PERMANENT)
    async def health(**_: Any) -> str:
        engine.check()
        for what in watches.missing(namespaces):
            raise Unhealthy(f"{what} is not watched")
        return "ok"

    # kopf waits for tasks that were not stopped.
    @kopf.on.cleanup(registry=made)
    async def cleanup(**_: Any) -> None:
        await engine.stop()

    return made
