"""Where a training process of this machine reports its progress: the contract's protocol, by HTTP
on the loopback address alone.
"""

from __future__ import annotations

import hmac
import secrets
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

from finetune_operator.core.model import Report
from finetune_operator.core.reporting import BadReport, parse

BODY_LIMIT = 64 * 1024


class Endpoint:
    """Takes reports while it is entered; `heard` is called after each."""

    def __init__(self, heard: Callable[[], None]) -> None:
        self.token = secrets.token_urlsafe(16)
        self.job = ""  # whose process reports
        self.latest: Report | None = None
        self._heard = heard
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Endpoint:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _take(self, authorization: str, body: bytes) -> int:
        if not hmac.compare_digest(authorization.encode(), f"Bearer {self.token}".encode()):
            return 401
        try:
            self.latest = parse(body, job=self.job, now=datetime.now(UTC))
        except BadReport:
            return 422
        self._heard()
        return 200

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            timeout = 5.0

            def do_POST(self) -> None:
                length = self.headers.get("Content-Length", "")
                if not length.isascii() or not length.isdigit() or int(length) > BODY_LIMIT:
                    self._answer(413)
                    return
                body = self.rfile.read(int(length))
                self._answer(endpoint._take(self.headers.get("Authorization", ""), body))

            def log_message(self, format: str, *args: object) -> None:
                return

            def _answer(self, status: int) -> None:
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

        return Handler
