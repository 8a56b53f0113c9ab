"""The server process: one application from the route modules, its log, its start and its end.

Does not belong here: what a route answers.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from pathlib import Path

from aiohttp import web

from . import access, faults, routes_files, routes_repos, routes_uploads, routes_xet
from .access import Handler
from .storage import CHUNK, Storage
from .tokens import TokenFileError, TokenStore


@web.middleware
async def log(request: web.Request, handler: Handler) -> web.StreamResponse:
    """One line per request; the query stays out of it because upload links are permissions."""
    started = time.monotonic()
    status: int | str = "cut"
    size = 0
    try:
        response = await handler(request)
        status, size = response.status, response.content_length or 0
        return response
    except ConnectionError:
        raise
    except Exception:
        status = 500
        raise
    finally:
        if request.path != "/healthz":
            took = time.monotonic() - started
            line = f"{request.method} {request.path} {status} {size}B {took * 1000:.0f}ms"
            print(line, flush=True)


async def health(_: web.Request) -> web.Response:
    return web.json_response({"status": "ok"})


async def telemetry(_: web.Request) -> web.Response:
    return web.Response(status=204)


def application(root: Path, tokens: Path | None, multipart_above: int) -> web.Application:
    app = web.Application(middlewares=[log, access.refusals], client_max_size=16 * CHUNK)
    app[access.HUB] = access.Hub(Storage(root), TokenStore(tokens), multipart_above)
    app.router.add_get("/healthz", health)
    app.router.add_get("/api/telemetry/{topic:.*}", telemetry)
    app.router.add_post("/v1/telemetry", telemetry)
    for routes in (routes_repos, routes_uploads, routes_files):
        routes.add_routes(app.router)
    routes_xet.install(app)
    faults.install(app)
    return app


async def run(app: web.Application, host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT, then let running requests finish for a few seconds."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=5)
    await runner.setup()
    await web.TCPSite(runner, host, port, reuse_address=True).start()
    addresses = [f"http://{name}:{number}" for name, number, *_ in runner.addresses]
    print(f"hub listens on {', '.join(addresses)}", flush=True)
    await stop.wait()
    print("hub stops", flush=True)
    await runner.cleanup()


def serve(root: Path, host: str, port: int, tokens: Path | None, multipart_above: int) -> int:
    try:
        app = application(root, tokens, multipart_above)
        asyncio.run(run(app, host, port))
    except (OSError, TokenFileError) as error:
        print(f"hub cannot start: {error}", file=sys.stderr)
        return 1
    return 0
