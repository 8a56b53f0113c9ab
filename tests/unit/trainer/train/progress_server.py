"""A progress endpoint as tests need one: it remembers, and answers as it is told to."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Server:
    """Remembers what it was told, and answers as it is told to."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.tokens: list[str] = []
        self.status = 200
        self.answer = b""
        self.hold = threading.Event()
        self.hold.set()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server.hold.wait()
                server.bodies.append(body["trainerStatus"])
                server.tokens.append(self.headers.get("Authorization", ""))
                self.send_response(server.status)
                self.send_header("Content-Length", str(len(server.answer)))
                self.end_headers()
                self.wfile.write(server.answer)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.http.server_port}/trainjobs/x/status"

    def ask_for_checkpoint(self, at: str) -> None:
        """From now on, as the operator passes on what a user asks for."""
        self.answer = json.dumps({"checkpointRequestedAt": at}).encode()

    def told(self, name: str) -> list[str]:
        """A metric's values, of all reports that have it."""
        metrics = (metric for body in self.bodies for metric in body["metrics"])
        return [metric["value"] for metric in metrics if metric["name"] == name]


@contextmanager
def progress_server() -> Iterator[Server]:
    """One that listens until the end."""
    server = Server()
    try:
        yield server
    finally:
        server.hold.set()
        server.http.shutdown()
        server.http.server_close()


def wait_for(condition: Callable[..., object]) -> None:
    """Until it holds."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
