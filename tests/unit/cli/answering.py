"""A cluster whose API server is a handler of HTTP, for faults that a real one shows only rarely."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from kubernetes.client import ApiClient, Configuration

from finetune_cli.client import Client
from finetune_cli.cluster import Cluster


@contextmanager
def answered_by(handler: type[BaseHTTPRequestHandler]) -> Iterator[Cluster]:
    """Namespace `demo` of that cluster, asked without the client's own retries."""
    http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    configuration = Configuration(host=f"http://127.0.0.1:{http.server_port}")
    configuration.retries = False
    yield Cluster(Client(ApiClient(configuration), "demo"), "demo")
    http.shutdown()
    http.server_close()
