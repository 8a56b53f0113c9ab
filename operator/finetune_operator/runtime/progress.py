"""The progress endpoint: HTTPS, one POST route (docs/stage-contract.md, Progress).

It answers as soon as the report is in memory: the sender's training step may be waiting. When
status is written is not decided here; how many connections there may be, in listener.py.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from aiohttp import web

from finetune_operator.core.naming import progress_path
from finetune_operator.core.reporting import BadReport, parse
from finetune_operator.kube.errors import ApiError
from finetune_operator.runtime.bearer import Bearers, Forbidden, Unauthenticated
from finetune_operator.runtime.listener import Listener
from finetune_operator.runtime.reports import Reports
from finetune_operator.runtime.store import Key, Store

log = logging.getLogger(__name__)

BODY_LIMIT = 64 * 1024
ROUTE = progress_path("{namespace}", "{name}")


class ProgressServer:
    """Takes reports in; tells `changed` which run they are about and when to look at it."""

    def __init__(
        self,
        *,
        store: Store,
        bearers: Bearers,
        latest: Reports,
        changed: Callable[[Key, float], None],
    ) -> None:
        self._store = store
        self._bearers = bearers
        self._latest = latest
        self._changed = changed
        self._runner: web.AppRunner | None = None
        self._listener: Listener | None = None

    def application(self) -> web.Application:
        app = web.Application(client_max_size=BODY_LIMIT)
        app.router.add_post(ROUTE, self._receive)
        return app

    async def start(self, port: int, context: ssl.SSLContext) -> None:
        """Listen on every address."""
        self._runner = web.AppRunner(self.application(), access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        assert self._runner.server is not None
        self._listener = Listener(self._runner.server, context)
        self._listener.start(port)

    async def stop(self) -> None:
        if self._listener is not None:
            await self._listener.stop()
        if self._runner is not None:
            await self._runner.cleanup()

    async def _receive(self, request: web.Request) -> web.Response:
        key = (request.match_info["namespace"], request.match_info["name"])
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            return _refusal(401, "Authorization must be: Bearer TOKEN.")
        try:
            job = await self._bearers.job_of(token.strip(), key)
            body = await request.read()
            report = parse(body, job=job.record.name, now=datetime.now(UTC))
        except Unauthenticated as error:
            return _refusal(401, str(error))
        except Forbidden as error:
            return _refusal(403, str(error))
        except BadReport as error:
            return _refusal(422, str(error))
        except ApiError as error:
            log.warning("Report of %s/%s not taken: %s", *key, error)
            return _refusal(503, "The token cannot be checked now: try again later.")
        now = asyncio.get_running_loop().time()
        self._changed(key, self._latest.put(job.record.owner_uid, report, now))
        return _answer(200, self._asked_of(key))

    def _asked_of(self, key: Key) -> dict[str, str]:
        """What the run's user asks of its training."""
        entry = self._store.run(key)
        if entry is None or entry.checkpoint_requested_at is None:
            return {}
        return {"checkpointRequestedAt": entry.checkpoint_requested_at}


def _refusal(status: int, message: str) -> web.Response:
    return _answer(status, {"message": message})


def _answer(status: int, body: Mapping[str, str]) -> web.Response:
    answer = web.json_response(body, status=status)
    # Connections are few and have a deadline: none waits for the next report.
    answer.force_close()
    return answer
