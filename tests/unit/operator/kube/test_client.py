"""The client against a server that answers what a healthy API server would not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from kubernetes.aio.client import Configuration

from finetune_operator.kube import errors
from finetune_operator.kube.client import Call, Client
from finetune_operator.kube.resources import CONFIG_MAPS, JOBS
from finetune_operator.kube.retry import ATTEMPTS


class Server:
    """Answers in turn with `answers`, then with 200; remembers what came."""

    def __init__(self) -> None:
        self.answers: list[web.Response] = []
        self.requests: list[tuple[str, str, dict[str, str], Any]] = []

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.json() if request.can_read_body else None
        self.requests.append((request.method, request.path_qs, dict(request.headers), body))
        if self.answers:
            return self.answers.pop(0)
        return web.json_response({"metadata": {"name": "x"}})


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
async def client(server: Server) -> AsyncIterator[Client]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.handle)
    async with TestServer(app) as running:
        configuration = Configuration(host=f"http://127.0.0.1:{running.port}")
        configuration.api_key["BearerToken"] = "Bearer secret"
        made = Client(configuration, user_agent="test")
        yield made
        await made.close()


def status(code: int, reason: str = "", **headers: str) -> web.Response:
    return web.json_response({"reason": reason}, status=code, headers=headers)


async def test_a_call_carries_the_token_and_our_name(client: Client, server: Server) -> None:
    assert await client.get(CONFIG_MAPS, "ns", "x") == {"metadata": {"name": "x"}}
    method, path, headers, _ = server.requests[0]
    assert (method, path) == ("GET", "/api/v1/namespaces/ns/configmaps/x")
    assert headers["Authorization"] == "Bearer secret"
    assert headers["User-Agent"] == "test"


async def test_status_is_a_merge_patch_on_the_subresource(client: Client, server: Server) -> None:
    await client.patch_status(JOBS, "ns", "x", {"status": {"a": None}})
    method, path, headers, body = server.requests[0]
    assert (method, path) == ("PATCH", "/apis/batch/v1/namespaces/ns/jobs/x/status")
    assert headers["Content-Type"] == "application/merge-patch+json"
    assert body == {"status": {"a": None}}


async def test_a_busy_server_is_asked_again_when_it_says(client: Client, server: Server) -> None:
    server.answers = [status(429, "TooManyRequests", **{"Retry-After": "1"})]
    started = asyncio.get_running_loop().time()
    await client.create(JOBS, "ns", {"kind": "Job"})
    assert asyncio.get_running_loop().time() - started >= 1.0
    assert len(server.requests) == 2


async def test_a_server_that_stays_broken_is_given_up(client: Client, server: Server) -> None:
    server.answers = [status(503) for _ in range(10)]
    with pytest.raises(errors.Transient):
        await client.get(JOBS, "ns", "x")
    assert len(server.requests) == 4


async def test_a_create_that_arrived_twice_shows_as_existing(
    client: Client, server: Server
) -> None:
    server.answers = [status(500), status(409, "AlreadyExists")]
    with pytest.raises(errors.AlreadyExists):
        await client.create(JOBS, "ns", {"kind": "Job"})


async def test_no_server_is_transient() -> None:
    client = Client(Configuration(host="http://127.0.0.1:1"), user_agent="test")
    with pytest.raises(errors.Transient, match="No answer from the API server"):
        await client.get(JOBS, "ns", "x")
    await client.close()


async def test_a_list_is_read_to_its_last_page(client: Client, server: Server) -> None:
    server.answers = [
        web.json_response({"metadata": {"continue": "more"}, "items": [1]}),
        web.json_response({"metadata": {}, "items": [2]}),
    ]
    pages = [page async for page in client.list_pages(JOBS, labelSelector="a=b")]
    assert [page["items"] for page in pages] == [[1], [2]]
    assert server.requests[0][1] == "/apis/batch/v1/jobs?limit=50&labelSelector=a%3Db"
    assert server.requests[1][1].endswith("continue=more")


DEEP = b'{"a":' * 50_000 + b"1" + b"}" * 50_000


@pytest.mark.parametrize(("code", "kind"), [(200, errors.ApiError), (409, errors.Conflict)])
async def test_an_answer_nested_without_end_is_an_error_like_others(
    client: Client, server: Server, code: int, kind: type[errors.ApiError]
) -> None:
    server.answers = [web.Response(body=DEEP, status=code)]
    with pytest.raises(kind):
        await client.get(JOBS, "ns", "x")
    assert len(server.requests) == 1


async def test_an_answer_that_was_cut_off_is_asked_for_again(
    client: Client, server: Server
) -> None:
    server.answers = [web.Response(body=b'{"metadata":')]
    assert await client.get(JOBS, "ns", "x") == {"metadata": {"name": "x"}}


async def test_every_call_is_told_also_those_that_are_repeated(server: Server) -> None:
    calls: list[Call] = []
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.handle)
    async with TestServer(app) as running:
        configuration = Configuration(host=f"http://127.0.0.1:{running.port}")
        client = Client(configuration, user_agent="test", seen=calls.append)
        server.answers = [status(503)]
        await client.get(JOBS, "ns", "x")
        server.answers = [status(404)]
        with pytest.raises(errors.NotFound):
            await client.patch(CONFIG_MAPS, "ns", "x", {})
        await running.close()
        with pytest.raises(errors.Transient):
            await client.list_page(JOBS)
        await client.close()
    assert [(call.verb, call.resource, call.code) for call in calls] == [
        ("get", "jobs", 503),
        ("get", "jobs", 200),
        ("patch", "configmaps", 404),
        *[("list", "jobs", 0)] * ATTEMPTS,
    ]
