"""Answers that are wrong on purpose: `POST /admin/faults` makes the next N requests fail.

Body: `{"prefix": "/api/models/", "status": 503, "times": 2, "retryAfter": 1}`; a list of what is
still to come is answered, and `DELETE` forgets it all. Only a write token may ask.
Does not belong here: faults of the network, which a proxy in front makes better.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from aiohttp import web

from .access import Handler, json_body, writer


@dataclass
class Fault:
    prefix: str
    status: int
    times: int
    retry_after: int | None = None


FAULTS = web.AppKey("faults", list[Fault])


async def change(request: web.Request) -> web.Response:
    writer(request, "admin")
    faults = request.app[FAULTS]
    if request.method == "DELETE":
        faults.clear()
    else:
        body: dict[str, object] = await json_body(request)
        retry_after = int(str(body["retryAfter"])) if "retryAfter" in body else None
        status, times = int(str(body.get("status", 503))), int(str(body.get("times", 1)))
        faults.append(Fault(str(body.get("prefix", "/")), status, times, retry_after))
    return web.json_response([asdict(fault) for fault in faults])


@web.middleware
async def inject(request: web.Request, handler: Handler) -> web.StreamResponse:
    faults = request.app[FAULTS]
    for fault in faults:
        if request.path.startswith(fault.prefix) and not request.path.startswith("/admin/"):
            fault.times -= 1
            if fault.times <= 0:
                faults.remove(fault)
            wait = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
            return web.json_response({"error": "injected"}, status=fault.status, headers=wait)
    return await handler(request)


def install(app: web.Application) -> None:
    app[FAULTS] = []
    # Inside the log, so that injected answers are seen there.
    app.middlewares.insert(1, inject)
    app.router.add_post("/admin/faults", change)
    app.router.add_delete("/admin/faults", change)
