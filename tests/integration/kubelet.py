"""What the API server asks a kubelet for when somebody reads a log: the one part of a node that a
test of logs needs. A Node that takes no pods points at an HTTPS server of the test.
"""

from __future__ import annotations

import contextlib
import json
import ssl
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from cluster.handle import Cluster

NODE = "paper-node"


class Kubelet:
    """Logs by pod; a pod's log is followed until it is closed."""

    def __init__(self) -> None:
        self._lines: dict[str, list[tuple[str, str]]] = {}
        self._closed: set[str] = set()
        self._changed = threading.Condition()

    def log(self, pod: str, *lines: str, close: bool = False) -> None:
        """Let the pod's container print."""
        with self._changed:
            self._lines.setdefault(pod, []).extend((_now(), line) for line in lines)
            if close:
                self._closed.add(pod)
            self._changed.notify_all()

    def read(self, pod: str, *, follow: bool) -> Iterator[tuple[str, str]]:
        """Time and text of the lines so far and, if asked for, of those to come."""
        read = 0
        while True:
            with self._changed:
                lines = self._lines.get(pod, [])[read:]
                if not lines and (not follow or pod in self._closed):
                    return
                if not lines:
                    self._changed.wait(0.2)
            read += len(lines)
            yield from lines


@contextlib.contextmanager
def running(cluster: Cluster) -> Iterator[Kubelet]:
    """A kubelet that the API server knows and trusts, in a control plane of the tests' own."""
    kubelet = Kubelet()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(kubelet))
    server.daemon_threads = True
    # The API server's own certificate is for this address and of the authority that it trusts.
    keys = cluster.kubeconfig.parent / "pki"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(keys / "apiserver.crt", keys / "apiserver.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    node = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": NODE},
        "spec": {"unschedulable": True},
    }
    status = {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": server.server_port}},
    }
    cluster.kubectl("create", "-f", "-", input=json.dumps(node))
    patch = json.dumps({"status": status})
    cluster.kubectl("patch", "node", NODE, "--subresource=status", "--type=merge", "-p", patch)
    try:
        yield kubelet
    finally:
        cluster.kubectl("delete", "node", NODE, "--wait=false")
        server.shutdown()


def _now() -> str:
    """As a kubelet writes times: all of the same length."""
    seconds, rest = divmod(time.time_ns(), 10**9)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest:09d}Z"


def _handler(kubelet: Kubelet) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            _, verb, _, pod, _ = url.path.split("/")
            assert verb == "containerLogs", self.path
            query = parse_qs(url.query)
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.send_header("Content-Type", "text/plain")
            self.end_headers()
            for moment, line in kubelet.read(pod, follow=query.get("follow") == ["true"]):
                stamped = query.get("timestamps") == ["true"]
                data = (f"{moment} {line}\n" if stamped else f"{line}\n").encode()
                self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
                self.wfile.flush()
            self.wfile.write(b"0\r\n\r\n")

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    return Handler
