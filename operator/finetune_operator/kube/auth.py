"""Where the API server is and who we are to it: a service account, or a kubeconfig.

Makes the official client's configuration; nothing here calls the Kubernetes API.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from kubernetes.aio.client import Configuration
from kubernetes.aio.config import (
    ConfigException,
    load_incluster_config,
    load_kube_config,
    refresh_token,
)

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
POOL = 64


class AuthError(Exception):
    """No usable credentials; the message says where they were looked for."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """The client's configuration; `keep_fresh` runs while the process does (None: not needed)."""

    configuration: Configuration
    in_cluster: bool
    loader: Any = None

    async def keep_fresh(self) -> None:
        """Renew what a credential plug-in of the kubeconfig gave us.

        A service account's token is read again by the client itself.
        """
        if self.loader is None:
            return
        while True:
            await refresh_token(self.loader, self.configuration)
            await asyncio.sleep(3600)

    async def bearer(self) -> str | None:
        """The token as it is now, without its scheme."""
        header = await self.configuration.get_api_key_with_prefix("BearerToken")
        return header.split(" ", 1)[-1].strip() if header else None


async def load(kubeconfig: str | None = None) -> Credentials:
    """From the kubeconfig named, else the service account, else $KUBECONFIG or ~/.kube/config."""
    configuration = Configuration()
    configuration.connection_pool_maxsize = POOL
    in_cluster = kubeconfig is None and "KUBERNETES_SERVICE_HOST" in os.environ
    loader = None
    try:
        if in_cluster and (SERVICE_ACCOUNT / "token").exists():
            load_incluster_config(configuration)
        else:
            in_cluster = False
            loader = await load_kube_config(kubeconfig, client_configuration=configuration)
    except (ConfigException, OSError, TypeError) as error:
        place = kubeconfig or os.environ.get("KUBECONFIG") or "~/.kube/config"
        raise AuthError(
            f"No access to a cluster: {place} cannot be used ({error}). Give --kubeconfig FILE, "
            "set KUBECONFIG, or run in a pod with a service account."
        ) from error
    # Else aiohttp looks into the environment and ~/.netrc in a thread, twice for every request.
    configuration.client_session_kwargs = {"trust_env": False}
    configuration.proxy = configuration.proxy or _proxy_from_environment(configuration.host)
    return Credentials(configuration, in_cluster, loader)


def _proxy_from_environment(server: str) -> str | None:
    """What HTTPS_PROXY and NO_PROXY say of this server, as kubectl reads them."""
    url = urlsplit(server)
    return None if proxy_bypass(url.netloc) else getproxies().get(url.scheme)


def own_namespace() -> str | None:
    """The namespace that this pod runs in; None outside a cluster."""
    try:
        return (SERVICE_ACCOUNT / "namespace").read_text().strip() or None
    except OSError:
        return None
