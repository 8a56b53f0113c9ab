"""The node's address, pod networking, Services and DNS.

Pods are routed, one veth pair each, on addresses of no other network; nothing is masqueraded, so a
pod reaches the cluster and this machine, and never the world outside.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import subprocess
from pathlib import Path

from cluster import binaries
from cluster.control_plane import NODE_NAME, ControlPlane
from cluster.processes import Service

# A node's address must not be on loopback; a bridge without ports carries one on any kernel.
NODE_INTERFACE = "ftnode"
NODE_ADDRESS = "172.30.255.1"
POD_RANGE = "10.244.0.0/16"
DOMAIN = "cluster.local"
CNI_NETWORK = "finetune"
# Where the CNI library, whatever the configuration, notes what it gave to whom.
_CNI_NOTES = Path("/var/lib/cni/results")
_NAMESPACES = Path("/run/netns")
KUBE_PROXY_HEALTH_PORT = 10256
KUBE_PROXY_TABLES = (("ip", "kube-proxy"), ("ip6", "kube-proxy"))


def ensure_node_address() -> None:
    if Path("/sys/class/net", NODE_INTERFACE).exists():
        return
    for arguments in (
        ("link", "add", NODE_INTERFACE, "type", "bridge"),
        ("address", "add", f"{NODE_ADDRESS}/24", "dev", NODE_INTERFACE),
        ("link", "set", NODE_INTERFACE, "up"),
    ):
        subprocess.run(["ip", *arguments], check=True)


def write_cni(configuration: Path, allocations: Path) -> None:
    """Tell containerd how to connect a pod."""
    configuration.mkdir(parents=True, exist_ok=True)
    routed = {
        "type": "ptp",
        "ipMasq": False,
        "ipam": {
            "type": "host-local",
            "dataDir": str(allocations),
            "ranges": [[{"subnet": POD_RANGE}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    content = {"cniVersion": "0.4.0", "name": CNI_NETWORK, "plugins": [routed]}
    (configuration / "10-finetune.conflist").write_text(json.dumps(content, indent=1))


def kube_proxy(plane: ControlPlane) -> Service:
    return Service(
        "kube-proxy",
        (
            str(binaries.path_of("kube-proxy")),
            f"--kubeconfig={plane.component_kubeconfig('kube-proxy')}",
            f"--hostname-override={NODE_NAME}",
            "--proxy-mode=nftables",
            f"--cluster-cidr={POD_RANGE}",
            # Leave the machine's connection tracking as it is.
            "--conntrack-max-per-core=0",
            "--conntrack-tcp-timeout-established=0s",
            "--conntrack-tcp-timeout-close-wait=0s",
            "--metrics-bind-address=127.0.0.1:10249",
            f"--healthz-bind-address=127.0.0.1:{KUBE_PROXY_HEALTH_PORT}",
        ),
    )


def coredns(plane: ControlPlane, configuration: Path) -> Service:
    """The cluster's names only: a test that needs the internet's would depend on it."""
    content = "\n".join(
        (
            ".:53 {",
            f"  bind {NODE_ADDRESS}",
            "  errors",
            f"  kubernetes {DOMAIN} in-addr.arpa {{",
            f"    kubeconfig {plane.kubeconfig}",
            "    ttl 2",
            "  }",
            "}",
            "",
        )
    )
    configuration.write_text(content)
    command = (str(binaries.path_of("coredns")), "-conf", str(configuration))
    return Service("coredns", command, revision=content)


def kube_proxy_ready() -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", KUBE_PROXY_HEALTH_PORT, timeout=5)
    with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    return False


def coredns_ready() -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((NODE_ADDRESS, 53)) == 0


def remove() -> None:
    """Undo what `ensure_node_address` and kube-proxy made."""
    for family, table in KUBE_PROXY_TABLES:
        subprocess.run(["nft", "delete", "table", family, table], capture_output=True, check=False)
    subprocess.run(["ip", "link", "delete", NODE_INTERFACE], capture_output=True, check=False)


def delete_pod_namespaces(allocations: Path) -> None:
    """Remove the network namespaces of pods that hold an address we gave, and the notes of it."""
    given = {
        path.name: path.read_text().split()[0]
        for path in (allocations / CNI_NETWORK).glob("*.*.*.*")
        if path.read_text().strip()
    }
    for namespace in _NAMESPACES.glob("cni-*"):
        command = ["ip", "-netns", namespace.name, "-oneline", "-4", "address", "show"]
        shown = subprocess.run(command, capture_output=True, text=True).stdout
        addresses = {address.partition("/")[0] for address in shown.split()}
        if addresses & given.keys():
            delete = ["ip", "netns", "delete", namespace.name]
            subprocess.run(delete, capture_output=True, check=False)
    for container in given.values():
        for note in _CNI_NOTES.glob(f"*-{container}-*"):
            note.unlink()
