"""The certificates and kubeconfigs of one cluster, made with the openssl command.

EC keys, because a control plane for one test must not wait for RSA. Who needs which identity is
listed here and nowhere else.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from cluster.errors import ClusterError

_DAYS = "3650"
_SERVICE_NAMES = (
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
)


@dataclass(frozen=True)
class Identity:
    """A certificate: whose it is, and under which names it may serve."""

    name: str
    subject: str
    names: tuple[str, ...] = ()


def identities(addresses: tuple[str, ...], node: str) -> tuple[Identity, ...]:
    """Every identity of a cluster whose servers are reached at `addresses`."""
    ip_names = tuple(f"IP:{address}" for address in addresses)
    dns_names = tuple(f"DNS:{name}" for name in _SERVICE_NAMES)
    return (
        Identity("apiserver", "/CN=kube-apiserver", ip_names + dns_names),
        Identity("apiserver-kubelet-client", "/O=system:masters/CN=kube-apiserver-kubelet-client"),
        Identity("admin", "/O=system:masters/CN=admin"),
        Identity("controller-manager", "/CN=system:kube-controller-manager"),
        Identity("scheduler", "/CN=system:kube-scheduler"),
        Identity("kube-proxy", "/CN=system:kube-proxy"),
        Identity("kubelet", f"/O=system:nodes/CN=system:node:{node}", (*ip_names, f"DNS:{node}")),
    )


@dataclass(frozen=True)
class Pki:
    """The directory that holds them; use `create`."""

    directory: Path

    def certificate(self, name: str) -> Path:
        return self.directory / f"{name}.crt"

    def private_key(self, name: str) -> Path:
        return self.directory / f"{name}.key"

    def kubeconfig(self, name: str, server: str) -> str:
        """A self-contained kubeconfig, valid wherever it is copied."""

        def data(path: Path) -> str:
            return base64.b64encode(path.read_bytes()).decode()

        return json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [
                    {
                        "name": "finetune",
                        "cluster": {
                            "server": server,
                            "certificate-authority-data": data(self.certificate("ca")),
                        },
                    }
                ],
                "users": [
                    {
                        "name": name,
                        "user": {
                            "client-certificate-data": data(self.certificate(name)),
                            "client-key-data": data(self.private_key(name)),
                        },
                    }
                ],
                "contexts": [
                    {"name": "finetune", "context": {"cluster": "finetune", "user": name}}
                ],
                "current-context": "finetune",
            },
            indent=1,
        )


def create(directory: Path, addresses: tuple[str, ...], node: str) -> Pki:
    """Make everything, unless the directory already holds exactly this."""
    wanted = identities(addresses, node)
    revision = hashlib.sha256(repr(wanted).encode()).hexdigest()
    stamp = directory / "revision"
    if stamp.exists() and stamp.read_text() == revision:
        return Pki(directory)
    if directory.exists():
        shutil.rmtree(directory)
    directory.mkdir(parents=True, mode=0o700)
    pki = Pki(directory)
    _openssl(
        *("req", "-x509", *_new_key(pki, "ca"), "-subj", "/CN=finetune-test-ca", "-days", _DAYS),
        *("-out", str(pki.certificate("ca"))),
    )
    with ThreadPoolExecutor(max_workers=4) as pool:
        pending = [pool.submit(_issue, pki, identity) for identity in wanted]
        pending.append(pool.submit(_service_account_keys, pki))
        for future in pending:
            future.result()
    stamp.write_text(revision)
    return pki


def _new_key(pki: Pki, name: str) -> list[str]:
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    return [*curve, "-keyout", str(pki.private_key(name))]


def _issue(pki: Pki, identity: Identity) -> None:
    request = pki.directory / f"{identity.name}.csr"
    extensions = pki.directory / f"{identity.name}.ext"
    lines = ["extendedKeyUsage=serverAuth,clientAuth"]
    if identity.names:
        lines.append("subjectAltName=" + ",".join(identity.names))
    extensions.write_text("\n".join(lines) + "\n")
    _openssl(
        *("req", "-new", *_new_key(pki, identity.name), "-subj", identity.subject),
        *("-out", str(request)),
    )
    serial = int.from_bytes(hashlib.sha256(identity.name.encode()).digest()[:8], "big")
    _openssl(
        *("x509", "-req", "-in", str(request), "-days", _DAYS, "-set_serial", str(serial)),
        *("-CA", str(pki.certificate("ca")), "-CAkey", str(pki.private_key("ca"))),
        *("-extfile", str(extensions), "-out", str(pki.certificate(identity.name))),
    )


def _service_account_keys(pki: Pki) -> None:
    private = str(pki.directory / "service-account.key")
    _openssl("ecparam", "-genkey", "-name", "prime256v1", "-noout", "-out", private)
    public = str(pki.directory / "service-account.pub")
    _openssl("ec", "-in", private, "-pubout", "-out", public)


def _openssl(*arguments: str) -> None:
    try:
        result = subprocess.run(["openssl", *arguments], capture_output=True, text=True)
    except FileNotFoundError:
        raise ClusterError("openssl is not on PATH: install the package openssl.") from None
    if result.returncode != 0:
        raise ClusterError(f"`openssl {arguments[0]}` failed: {result.stderr.strip()}")
