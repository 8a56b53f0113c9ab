"""What else Prometheus scrapes in a real cluster and nobody can have on a control plane: the DCGM
exporter and the kubelets, in the formats that they document, about pods of a test.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

GIB = 2**30


class Neighbours:
    """One server for both: `/metrics` of a run in training and of its workspace."""

    def __init__(self, namespace: str, run: str, pod: str) -> None:
        self._namespace, self._run, self._pod = namespace, run, pod
        self._began = time.monotonic()
        self.port = 0
        self.xid = 0

    def text(self) -> str:
        """The exposition, of GPUs that hardly work and a volume that is nearly full."""
        of_pod = f'namespace="{self._namespace}",pod="{self._pod}"'
        gpu = f'{{gpu="0",UUID="GPU-1",Hostname="node-a",container="stage",{of_pod}}}'
        claim = f'{{namespace="{self._namespace}",persistentvolumeclaim="{self._run}-workspace"}}'
        container = f'{{container="stage",{of_pod}}}'
        values = {
            f"DCGM_FI_DEV_GPU_UTIL{gpu}": 4,
            f"DCGM_FI_DEV_FB_USED{gpu}": 61_000,
            f"DCGM_FI_DEV_POWER_USAGE{gpu}": 310,
            f"DCGM_FI_DEV_GPU_TEMP{gpu}": 61,
            f"DCGM_FI_PROF_PIPE_TENSOR_ACTIVE{gpu}": 0.03,
            f"DCGM_FI_DEV_XID_ERRORS{gpu}": self.xid,
            f"kubelet_volume_stats_available_bytes{claim}": 5 * GIB,
            f"kubelet_volume_stats_used_bytes{claim}": 95 * GIB,
            f"kubelet_volume_stats_capacity_bytes{claim}": 100 * GIB,
            f"container_memory_working_set_bytes{container}": 3 * GIB,
            f"container_cpu_usage_seconds_total{container}": time.monotonic() - self._began,
        }
        return "".join(f"{series} {value}\n" for series, value in values.items())


@contextlib.contextmanager
def serving(neighbours: Neighbours) -> Iterator[Neighbours]:
    """Listen on a port of its own until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = neighbours.text().encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    neighbours.port = server.server_port
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield neighbours
    finally:
        server.shutdown()
        server.server_close()
