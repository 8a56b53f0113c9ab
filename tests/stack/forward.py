"""Reach a Service of the cluster from this machine, with any provider: `kubectl port-forward`."""

from __future__ import annotations

import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from cluster.errors import ClusterError
from cluster.handle import Cluster


@contextmanager
def forwarded(cluster: Cluster, *, namespace: str, target: str, port: int) -> Iterator[str]:
    """`http://127.0.0.1:PORT` for `target` ("service/hub"), while the context is open.

    Raises:
        ClusterError: kubectl ended instead of forwarding.
    """
    command = [str(cluster.kubectl_binary), "--kubeconfig", str(cluster.kubeconfig)]
    command += ["port-forward", "-n", namespace, target, f":{port}"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        found = re.search(r"127\.0\.0\.1:(\d+)", line)
        if not found:
            raise ClusterError(f"port-forward to {target} failed: {line.strip()}")
        # kubectl writes a line per connection: read on, or it blocks.
        threading.Thread(target=process.stdout.read, daemon=True).start()
        yield f"http://127.0.0.1:{found.group(1)}"
    finally:
        process.terminate()
        process.wait(timeout=10)
