"""Connections of the progress endpoint: how many at once, from whom, for how long.

Every pod of the cluster can reach the port, and a connection costs about half a mebibyte from its
first byte on, long before it has shown a token. So places are given before TLS begins, and every
connection ends by a deadline whatever its peer does. What is said on it is progress.py's matter.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections import Counter
from collections.abc import Callable
from functools import partial

log = logging.getLogger(__name__)

PLACES = 64
# A peer may be a node that hides its pods behind its own address.
PLACES_OF_ONE_PEER = 16
# From accept to the end of the answer; a report takes milliseconds.
SECONDS = 10.0
BACKLOG = 128
PAUSE_AFTER_ERROR = 0.5


class Listener:
    """Accepts connections and hands those that get a place to protocols made by `serve`."""

    def __init__(self, serve: Callable[[], asyncio.Protocol], context: ssl.SSLContext) -> None:
        self._serve = serve
        self._context = context
        self._socket: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._peers: Counter[str] = Counter()

    def start(self, port: int) -> int:
        """Listen on every address; the port, chosen freely for 0. OSError if it is taken."""
        self._socket = _listen(port)
        self._accepting = asyncio.create_task(self._accept(self._socket), name="progress listener")
        return int(self._socket.getsockname()[1])

    async def stop(self) -> None:
        """Close the port and every connection."""
        tasks = [*self._connections] + ([self._accepting] if self._accepting else [])
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._socket is not None:
            self._socket.close()

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, address = await loop.sock_accept(listening)
            except OSError as error:
                # Out of file descriptors, say: connections end, and give theirs back.
                log.warning("Progress endpoint: a connection could not be accepted: %s", error)
                await asyncio.sleep(PAUSE_AFTER_ERROR)
                continue
            peer = str(address[0])
            if len(self._connections) >= PLACES or self._peers[peer] >= PLACES_OF_ONE_PEER:
                connection.close()
                continue
            self._peers[peer] += 1
            task = asyncio.create_task(self._connection(connection), name=f"progress of {peer}")
            self._connections.add(task)
            task.add_done_callback(partial(self._free, peer))

    def _free(self, peer: str, ended: asyncio.Task[None]) -> None:
        self._connections.discard(ended)
        self._peers[peer] -= 1
        if not self._peers[peer]:
            del self._peers[peer]

    async def _connection(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()
        transport: asyncio.Transport | None = None
        # An SSLError is an OSError: a scanner, or a client that does not trust the certificate.
        with contextlib.suppress(TimeoutError, OSError):
            try:
                async with asyncio.timeout(SECONDS):
                    transport, _ = await loop.connect_accepted_socket(
                        lambda: _UntilItEnds(self._serve(), ended),
                        connection,
                        ssl=self._context,
                        ssl_handshake_timeout=SECONDS,
                        ssl_shutdown_timeout=1.0,
                    )
                    await ended
            finally:
                if transport is not None:
                    transport.abort()
                connection.close()


class _UntilItEnds(asyncio.Protocol):
    """Another protocol, and a future that is done when its connection has ended."""

    def __init__(self, inner: asyncio.Protocol, ended: asyncio.Future[None]) -> None:
        self._inner = inner
        self._ended = ended

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received()

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._inner.connection_lost(exc)
        if not self._ended.done():
            self._ended.set_result(None)


def _listen(port: int) -> socket.socket:
    listening: socket.socket | None = None
    if socket.has_dualstack_ipv6():
        # A kernel may know IPv6 and still have no address of it.
        with contextlib.suppress(OSError):
            listening = socket.create_server(
                ("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=BACKLOG
            )
    if listening is None:
        listening = socket.create_server(("", port), backlog=BACKLOG)
    listening.setblocking(False)
    return listening
