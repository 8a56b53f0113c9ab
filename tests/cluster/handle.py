"""What a test gets: a handle on some cluster, the same whoever provides it."""

from __future__ import annotations

import contextlib
import json
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_LABEL = "app.kubernetes.io/managed-by"
_OWNER = "finetune-tests"


class KubectlError(Exception):
    """kubectl failed; the message holds the command and what it said."""


@dataclass(frozen=True)
class Cluster:
    """A cluster to test against. Whoever uses it works in namespaces made by `namespace`."""

    kubeconfig: Path
    provider: str
    kubectl_binary: Path
    image: Callable[[str], str]
    """The reference of an image of `images.RECIPES` ("operator", …), built when first asked for."""
    audit_log: Path | None = None
    """The API server's audit log, where it is ours: one JSON object a line, level Metadata."""

    def kubectl(self, *arguments: str, input: str | None = None, check: bool = True) -> str:
        """Run kubectl against this cluster; its standard output."""
        result = subprocess.run(
            [str(self.kubectl_binary), "--kubeconfig", str(self.kubeconfig), *arguments],
            input=input,
            stdin=subprocess.DEVNULL if input is None else None,
            capture_output=True,
            text=True,
        )
        if check and result.returncode != 0:
            raise KubectlError(f"kubectl {' '.join(arguments)}: {result.stderr.strip()}")
        return result.stdout

    def wait_for_crd(self, name: str, seconds: float = 30.0) -> None:
        """Until the API server serves it. A CRD that is new has `conditions: null`: `kubectl wait`
        fails on that, and so does a JSONPath filter.

        Raises:
            KubectlError: it does not within `seconds`.
        """
        deadline = time.monotonic() + seconds
        while not _established(json.loads(self.kubectl("get", "crd", name, "-o", "json"))):
            if time.monotonic() > deadline:
                raise KubectlError(f"crd/{name} is not established after {seconds:.0f} s.")
            time.sleep(0.1)

    @contextlib.contextmanager
    def namespace(self, prefix: str, restricted: bool = True) -> Iterator[str]:
        """A namespace of one's own, its name unique; deleted afterwards, without waiting."""
        name = f"{prefix}-{secrets.token_hex(3)}"
        labels = {_LABEL: _OWNER}
        if restricted:
            labels["pod-security.kubernetes.io/enforce"] = "restricted"
        manifest = {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": name, "labels": labels},
        }
        self.kubectl("create", "-f", "-", input=json.dumps(manifest))
        try:
            yield name
        finally:
            self.kubectl("delete", "namespace", name, "--wait=false", check=False)


def _established(crd: dict[str, Any]) -> bool:
    conditions = (crd.get("status") or {}).get("conditions") or []
    return any(item["type"] == "Established" and item["status"] == "True" for item in conditions)
