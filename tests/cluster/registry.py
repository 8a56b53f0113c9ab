"""An image registry on loopback, from Debian's docker-registry; its storage is cached."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import subprocess
from pathlib import Path

from cluster import paths
from cluster.errors import ClusterError
from cluster.processes import Service, Supervisor

PORT_VARIABLE = "FINETUNE_REGISTRY_PORT"
NAME = "registry"
_MANIFESTS = ", ".join(
    (
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)


def port() -> int:
    text = os.environ.get(PORT_VARIABLE, "5000")
    if not text.isdigit():
        raise ClusterError(f"{PORT_VARIABLE}={text} is not a port number: set one, such as 5000.")
    return int(text)


def address() -> str:
    """How images name it; containerd and podman both know it speaks plain HTTP."""
    return f"localhost:{port()}"


def service(configuration: Path) -> Service:
    content = json.dumps(
        {
            "version": 0.1,
            "log": {"level": "warn", "accesslog": {"disabled": True}},
            "storage": {
                "filesystem": {"rootdirectory": str(paths.registry_storage())},
                "delete": {"enabled": True},
            },
            "http": {"addr": f"127.0.0.1:{port()}"},
        }
    )
    configuration.write_text(content)
    return Service(NAME, ("docker-registry", "serve", str(configuration)), revision=content)


def ensure(supervisor: Supervisor, configuration: Path) -> None:
    paths.registry_storage().mkdir(parents=True, exist_ok=True)
    wanted = service(configuration)
    if supervisor.pid(NAME) is None and _port_taken():
        raise ClusterError(
            f"Port {port()} on loopback is used by another program: stop it, "
            f"or set {PORT_VARIABLE} to a free port."
        )
    supervisor.ensure(wanted)
    supervisor.wait(NAME, _answers, 20.0)


def digest(name: str, tag: str) -> str | None:
    """The digest of an image the registry holds, or None."""
    with contextlib.closing(_connection()) as connection:
        connection.request("HEAD", f"/v2/{name}/manifests/{tag}", headers={"Accept": _MANIFESTS})
        response = connection.getresponse()
        return response.getheader("Docker-Content-Digest") if response.status == 200 else None


def delete(name: str, tag: str) -> None:
    """Forget an image; its layers go with the next `collect_garbage`."""
    found = digest(name, tag)
    if found is not None:
        with contextlib.closing(_connection()) as connection:
            connection.request("DELETE", f"/v2/{name}/manifests/{found}")
            connection.getresponse().read()


def collect_garbage(configuration: Path) -> None:
    """Free the layers that no image names; nothing may be pushed meanwhile."""
    subprocess.run(
        ["docker-registry", "garbage-collect", str(configuration)], capture_output=True, check=False
    )


def _connection() -> http.client.HTTPConnection:
    return http.client.HTTPConnection("127.0.0.1", port(), timeout=10)


def _answers() -> bool:
    try:
        with contextlib.closing(_connection()) as connection:
            connection.request("GET", "/v2/")
            return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False


def _port_taken() -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port())) == 0
