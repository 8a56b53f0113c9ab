"""kopf's watches use the same credentials as our own calls."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import kopf

from finetune_operator.kube.auth import Credentials

# Service account tokens are replaced by the kubelet long before they expire.
TOKEN_KEPT = timedelta(minutes=10)


async def connection(credentials: Credentials) -> kopf.ConnectionInfo:
    """The credentials as kopf wants them."""
    configuration = credentials.configuration
    token = await credentials.bearer()
    return kopf.ConnectionInfo(
        server=configuration.host,
        ca_path=configuration.ssl_ca_cert,
        insecure=not configuration.verify_ssl,
        scheme="Bearer" if token else None,
        token=token,
        certificate_path=configuration.cert_file,
        private_key_path=configuration.key_file,
        proxy_url=configuration.proxy,
        expiration=datetime.now(UTC) + TOKEN_KEPT if token else None,
    )
