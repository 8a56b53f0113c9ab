"""The listener against peers that say nothing, little, or too often; real sockets and TLS."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import ClientError, ClientSession, web

from finetune_operator.runtime import certificate, listener
from finetune_operator.runtime.listener import Listener

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Endpoint:
    """A web server behind a listener on a free port."""

    def __init__(self, directory: Path) -> None:
        made = certificate.make(["localhost"])
        self.trusted = ssl.create_default_context(cadata=made.authority)
        self.context = certificate.context(made, directory)
        self.port = 0
        self._open: list[asyncio.StreamWriter] = []

    async def start(self) -> None:
        app = web.Application()
        app.router.add_post("/", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        assert self._runner.server is not None
        self._listener = Listener(self._runner.server, self.context)
        self.port = self._listener.start(0)

    async def stop(self) -> None:
        for writer in self._open:
            writer.close()
        await self._listener.stop()
        await self._runner.cleanup()

    async def connect(self, *, tls: bool) -> Streams:
        streams = await asyncio.open_connection(
            "127.0.0.1",
            self.port,
            ssl=self.trusted if tls else None,
            server_hostname="localhost" if tls else None,
        )
        self._open.append(streams[1])
        return streams

    async def post(self) -> str:
        url = f"https://localhost:{self.port}/"
        async with (
            ClientSession() as session,
            session.post(url, data=b"body", ssl=self.trusted) as answer,
        ):
            return await answer.text()

    @staticmethod
    async def _answer(request: web.Request) -> web.Response:
        return web.Response(text=(await request.read()).decode())


@pytest.fixture
async def endpoint(tmp_path: Path) -> AsyncIterator[Endpoint]:
    made = Endpoint(tmp_path)
    await made.start()
    yield made
    await made.stop()


async def _closed(streams: Streams) -> bool:
    """Whether the server closes the connection without an answer, within moments."""
    try:
        return await asyncio.wait_for(streams[0].read(), timeout=2) == b""
    except ConnectionError:
        return True


async def test_it_serves(endpoint: Endpoint) -> None:
    assert await asyncio.gather(*(endpoint.post() for _ in range(5))) == ["body"] * 5


async def test_who_says_nothing_is_not_waited_for(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "SECONDS", 0.3)
    half_open = [await endpoint.connect(tls=False) for _ in range(3)]
    idle = await endpoint.connect(tls=True)
    slow = await endpoint.connect(tls=True)
    slow[1].write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nbo")
    assert all([await _closed(streams) for streams in (*half_open, idle, slow)])


async def test_one_peer_gets_so_many_places_and_gets_them_back(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "PLACES_OF_ONE_PEER", 2)
    taken = [await endpoint.connect(tls=False) for _ in range(2)]
    await asyncio.sleep(0.1)
    assert await _closed(await endpoint.connect(tls=False))
    with pytest.raises((ClientError, OSError)):
        await endpoint.post()
    for _, writer in taken:
        writer.close()
    await asyncio.sleep(0.1)
    assert await endpoint.post() == "body"


async def test_there_are_so_many_places_in_all(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "PLACES", 1)
    await endpoint.connect(tls=True)
    assert await _closed(await endpoint.connect(tls=False))


async def test_a_port_that_is_taken_is_told(endpoint: Endpoint) -> None:
    with pytest.raises(OSError, match="in use"):
        Listener(asyncio.Protocol, endpoint.context).start(endpoint.port)
