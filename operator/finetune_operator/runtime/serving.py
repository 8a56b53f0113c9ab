"""Where the progress endpoint's certificate is kept: a Secret in a cluster, a directory outside.

The operator may create the Secret but not read it: it reads what the Deployment mounts. How a
certificate is made is certificate.py's matter.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path

from finetune_operator.kube.client import Client
from finetune_operator.kube.errors import AlreadyExists
from finetune_operator.kube.resources import SECRETS
from finetune_operator.runtime import certificate
from finetune_operator.runtime.certificate import Certificate
from finetune_operator.vocabulary import LABEL_MANAGED_BY, MANAGER

log = logging.getLogger(__name__)

SECRET = "finetune-operator-tls"
# A kubelet brings a new Secret into a running pod within about a minute and a half.
MOUNT_SECONDS = 120.0


class CertificateError(Exception):
    """No certificate to serve with; the message says what to do."""


def service_hosts(namespace: str) -> list[str]:
    """The names under which pods reach the operator's Service."""
    service = f"{MANAGER}.{namespace}"
    return [MANAGER, service, f"{service}.svc", f"{service}.svc.cluster.local"]


def from_directory(directory: Path, hosts: Sequence[str]) -> Certificate:
    """The certificate kept in this directory, made at the first start."""
    found = certificate.read(directory)
    if found is None:
        found = certificate.make(hosts)
        certificate.write(found, directory)
    return found


async def from_secret(
    client: Client, namespace: str, mounted: Path, hosts: Sequence[str]
) -> Certificate:
    """The certificate in the mounted Secret, which is made at the first start."""
    found = certificate.read(mounted)
    if found is not None:
        return found
    made = certificate.make(hosts)
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": SECRET, "labels": {LABEL_MANAGED_BY: MANAGER}},
        "type": "kubernetes.io/tls",
        "immutable": True,
        "stringData": made.files(),
    }
    try:
        await client.create(SECRETS, namespace, secret)
    except AlreadyExists:
        log.info("Waiting for Secret %s/%s to be mounted", namespace, SECRET)
        return await _mounted(namespace, mounted)
    return made


async def _mounted(namespace: str, directory: Path) -> Certificate:
    deadline = asyncio.get_running_loop().time() + MOUNT_SECONDS
    while asyncio.get_running_loop().time() < deadline:
        found = certificate.read(directory)
        if found is not None:
            return found
        await asyncio.sleep(1.0)
    raise CertificateError(
        f"Secret {namespace}/{SECRET} exists but is not mounted at {directory}: mount it as "
        "manifests/base/deployment.yaml does, or delete it to have a new one made."
    )
