"""etcd, API server, controller manager and scheduler: enough for tests that need no pods.

Runs without root, several side by side, each in its own directory on its own ports. What a node
adds is in `node.py`.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cluster import binaries, pki
from cluster.api import Client
from cluster.processes import Service, Supervisor

NODE_NAME = "node-1"
SERVICE_ADDRESS = "10.96.0.1"
SERVICE_RANGE = "10.96.0.0/16"
START_SECONDS = 60.0
# Default client limits (20 requests a second) would be what a benchmark measures.
CLIENT_LIMITS = ("--kube-api-qps=1000", "--kube-api-burst=2000")

_AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "None", "nonResourceURLs": ["/healthz*", "/livez*", "/readyz*", "/version"]},
        {"level": "Metadata"},
    ],
}


@dataclass(frozen=True)
class Ports:
    """What the servers listen on, chosen once and written down so that a restart keeps them."""

    api: int
    etcd: int
    etcd_peer: int

    @staticmethod
    def choose(path: Path) -> Ports:
        if path.exists():
            return Ports(**json.loads(path.read_text()))
        with contextlib.ExitStack() as stack:
            free = []
            for _ in range(3):
                listener = stack.enter_context(socket.socket())
                listener.bind(("127.0.0.1", 0))
                free.append(listener.getsockname()[1])
        ports = Ports(*free)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(vars(ports)))
        return ports


class ControlPlane:
    """The four daemons of one directory.

    With `node_address` the API server is also reachable there, which pods need.
    """

    def __init__(
        self, directory: Path, supervisor: Supervisor, *, node_address: str | None = None
    ) -> None:
        self.directory = directory
        self.supervisor = supervisor
        self.node_address = node_address
        self.kubeconfig = directory / "kubeconfig"
        self.audit_log = directory / "audit" / "audit.log"

    def prepare(self) -> None:
        """Keys, configuration and ports; needs no process."""
        node = (self.node_address,) if self.node_address else ()
        addresses = ("127.0.0.1", SERVICE_ADDRESS, *node)
        self.pki = pki.create(self.directory / "pki", addresses, NODE_NAME)
        self.ports = Ports.choose(self.directory / "ports.json")
        self.server = f"https://127.0.0.1:{self.ports.api}"
        self._write_kubeconfig("admin", self.kubeconfig)
        for name in ("controller-manager", "scheduler", "kube-proxy", "kubelet"):
            self._write_kubeconfig(name, self.component_kubeconfig(name))
        self.audit_log.parent.mkdir(exist_ok=True)
        self._policy = self.directory / "audit-policy.json"
        self._policy.write_text(json.dumps(_AUDIT_POLICY))

    def load(self) -> None:
        """Know an instance that another process prepared."""
        self.pki = pki.Pki(self.directory / "pki")
        self.ports = Ports.choose(self.directory / "ports.json")

    def component_kubeconfig(self, name: str) -> Path:
        return self.directory / "pki" / f"{name}.kubeconfig"

    def client(self) -> Client:
        """A client with every right."""
        authority, certificate = self.pki.certificate("ca"), self.pki.certificate("admin")
        key = self.pki.private_key("admin")
        return Client("127.0.0.1", self.ports.api, authority, certificate, key)

    def ensure(self) -> bool:
        """Start what does not run and wait until pods could be created; True if anything was."""
        self.prepare()
        etcd, api_server, *controllers = self.services()
        # The API server waits for etcd by itself, so both start at once.
        started = [self.supervisor.ensure(etcd), self.supervisor.ensure(api_server)]
        client = self.client()
        self.supervisor.wait(api_server.name, lambda: client.ok("/readyz"), START_SECONDS)
        started += [self.supervisor.ensure(service) for service in controllers]
        # Made by the controller manager; pods are refused before it is there.
        account = "/api/v1/namespaces/default/serviceaccounts/default"
        self.supervisor.wait(controllers[0].name, lambda: client.ok(account), START_SECONDS)
        client.close()
        return any(started)

    def services(self) -> tuple[Service, ...]:
        return (self._etcd(), self._api_server(), self._controller_manager(), self._scheduler())

    def _write_kubeconfig(self, name: str, path: Path) -> None:
        content = self.pki.kubeconfig(name, self.server)
        if not path.exists() or path.read_text() != content:
            path.touch(mode=0o600)
            path.write_text(content)

    def _etcd(self) -> Service:
        client = f"http://127.0.0.1:{self.ports.etcd}"
        return Service(
            "etcd",
            (
                str(binaries.path_of("etcd")),
                f"--data-dir={self.directory / 'etcd'}",
                f"--listen-client-urls={client}",
                f"--advertise-client-urls={client}",
                f"--listen-peer-urls=http://127.0.0.1:{self.ports.etcd_peer}",
                f"--initial-advertise-peer-urls=http://127.0.0.1:{self.ports.etcd_peer}",
                f"--initial-cluster=default=http://127.0.0.1:{self.ports.etcd_peer}",
                # A power cut may lose a test's data; a slow disk must not slow every test.
                "--unsafe-no-fsync",
                "--auto-compaction-mode=periodic",
                "--auto-compaction-retention=30m",
                "--log-level=warn",
            ),
        )

    def _api_server(self) -> Service:
        keys = self.pki
        service_account = keys.directory / "service-account"
        address = self.node_address or "127.0.0.1"
        return Service(
            "kube-apiserver",
            (
                str(binaries.path_of("kube-apiserver")),
                f"--etcd-servers=http://127.0.0.1:{self.ports.etcd}",
                f"--secure-port={self.ports.api}",
                f"--bind-address={'0.0.0.0' if self.node_address else '127.0.0.1'}",
                f"--advertise-address={address}",
                f"--service-cluster-ip-range={SERVICE_RANGE}",
                f"--client-ca-file={keys.certificate('ca')}",
                f"--tls-cert-file={keys.certificate('apiserver')}",
                f"--tls-private-key-file={keys.private_key('apiserver')}",
                f"--kubelet-certificate-authority={keys.certificate('ca')}",
                f"--kubelet-client-certificate={keys.certificate('apiserver-kubelet-client')}",
                f"--kubelet-client-key={keys.private_key('apiserver-kubelet-client')}",
                "--kubelet-preferred-address-types=InternalIP",
                "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
                f"--service-account-signing-key-file={service_account}.key",
                f"--service-account-key-file={service_account}.pub",
                "--authorization-mode=Node,RBAC",
                "--enable-admission-plugins=NodeRestriction",
                "--allow-privileged=true",
                f"--audit-policy-file={self._policy}",
                f"--audit-log-path={self.audit_log}",
                "--audit-log-format=json",
                "--audit-log-maxsize=500",
                "--audit-log-maxbackup=1",
                # Endless waits for clients that went away would delay every restart.
                "--shutdown-delay-duration=0s",
            ),
        )

    def _controller_manager(self) -> Service:
        keys = self.pki
        return Service(
            "kube-controller-manager",
            (
                str(binaries.path_of("kube-controller-manager")),
                f"--kubeconfig={self.component_kubeconfig('controller-manager')}",
                f"--root-ca-file={keys.certificate('ca')}",
                f"--service-account-private-key-file={keys.directory / 'service-account.key'}",
                "--use-service-account-credentials",
                "--leader-elect=false",
                "--secure-port=0",
                # A stopped kubelet is noticed within a test's patience.
                "--node-monitor-period=2s",
                "--node-monitor-grace-period=20s",
                *CLIENT_LIMITS,
            ),
        )

    def _scheduler(self) -> Service:
        return Service(
            "kube-scheduler",
            (
                str(binaries.path_of("kube-scheduler")),
                f"--kubeconfig={self.component_kubeconfig('scheduler')}",
                "--leader-elect=false",
                "--secure-port=0",
                *CLIENT_LIMITS,
            ),
        )


@contextlib.contextmanager
def temporary() -> Iterator[ControlPlane]:
    """A control plane of one's own, gone afterwards, also when this process is killed."""
    binaries.ensure(binaries.CONTROL_PLANE)
    directory = Path(tempfile.mkdtemp(prefix="finetune-control-plane-"))
    supervisor = Supervisor(directory, die_with_parent=True)
    plane = ControlPlane(directory, supervisor)
    try:
        plane.ensure()
        yield plane
    finally:
        for name in supervisor.names():
            supervisor.stop(name, grace=0)
        shutil.rmtree(directory, ignore_errors=True)
