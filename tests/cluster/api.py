"""A few lines of HTTP to an API server of ours, for readiness checks and the helper process.

Not a general client: it knows client certificates, JSON and watches, nothing else.
"""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Json = dict[str, Any]


class ApiError(Exception):
    """The server answered with a status that is not success."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class Client:
    """One connection at a time to `https://host:port`; not for use by several threads."""

    def __init__(self, host: str, port: int, ca: Path, certificate: Path, key: Path) -> None:
        self._host = host
        self._port = port
        self._context = ssl.create_default_context(cafile=str(ca))
        self._context.load_cert_chain(str(certificate), str(key))
        self._connection: http.client.HTTPSConnection | None = None

    def text(self, method: str, path: str, body: Json | list[Json] | None = None) -> str:
        response = self._send(method, path, body, timeout=10.0)
        return response.read().decode()

    def call(self, method: str, path: str, body: Json | list[Json] | None = None) -> Json:
        result = json.loads(self.text(method, path, body))
        if not isinstance(result, dict):
            raise ApiError(0, f"{path} did not answer with an object")
        return result

    def ok(self, path: str) -> bool:
        """Whether a GET succeeds; no server yet counts as no."""
        try:
            self.text("GET", path)
        except (ApiError, OSError, http.client.HTTPException):
            return False
        return True

    def list_and_watch(self, path: str, seconds: int = 240) -> Iterator[Json]:
        """Every object now there, then each as it changes, until the watch ends; once."""
        joiner = "&" if "?" in path else "?"
        listed = self.call("GET", path)
        yield from listed.get("items", [])
        version = listed["metadata"]["resourceVersion"]
        watch = f"{path}{joiner}watch=1&resourceVersion={version}&timeoutSeconds={seconds}"
        response = self._send("GET", watch, None, timeout=seconds + 10.0)
        for line in response:
            event = json.loads(line)
            if event["type"] == "ERROR":
                return
            if event["type"] in ("ADDED", "MODIFIED"):
                yield event["object"]

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _send(
        self, method: str, path: str, body: Json | list[Json] | None, timeout: float
    ) -> http.client.HTTPResponse:
        headers = {"Accept": "application/json"}
        if body is not None:
            patch = "json-patch" if isinstance(body, list) else "merge-patch"
            kind = f"application/{patch}+json" if method == "PATCH" else "application/json"
            headers["Content-Type"] = kind
        payload = None if body is None else json.dumps(body)
        self.close()
        connection = http.client.HTTPSConnection(
            self._host, self._port, context=self._context, timeout=timeout
        )
        self._connection = connection
        try:
            connection.request(method, path, payload, headers)
            response = connection.getresponse()
        except (OSError, http.client.HTTPException):
            self.close()
            raise
        if response.status >= 300:
            message = response.read().decode(errors="replace")
            self.close()
            raise ApiError(response.status, message[:500])
        return response
