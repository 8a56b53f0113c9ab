"""`up` and `down` of the whole cluster on this machine: the order of things, and no details.

Every step of `up` looks first and does only what is missing, so that it is also the repair of a
cluster that lost parts, and may simply be run again after an interruption.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from pathlib import Path

from cluster import (
    binaries,
    gpus,
    images,
    locks,
    network,
    node,
    packages,
    paths,
    preflight,
    progress,
    registry,
    volumes,
)
from cluster.api import ApiError, Client
from cluster.control_plane import NODE_NAME, ControlPlane
from cluster.errors import ClusterError
from cluster.processes import Service, Supervisor

_HELPER = "helper"
_NODE_SECONDS = 90.0
# What kubelet, kube-proxy and the CNI plugins set for the whole machine; put back by `down`.
KERNEL_SETTINGS = (
    "kernel/keys/root_maxbytes",
    "kernel/keys/root_maxkeys",
    "kernel/panic",
    "kernel/panic_on_oops",
    "net/ipv4/conf/all/route_localnet",
    "net/ipv4/ip_forward",
    "vm/overcommit_memory",
    "vm/panic_on_oom",
)


def up() -> None:
    """A whole cluster, ready for pods."""
    state = paths.state()
    with locks.exclusive(state.parent / "cluster.lock", "the test cluster"):
        preflight.require(preflight.BEFORE_INSTALLING)
        packages.ensure()
        supervisor = Supervisor(state)
        if supervisor.pid(node.KUBELET) is None:
            preflight.require(preflight.ONCE_INSTALLED)
        binaries.ensure(binaries.CONTROL_PLANE + binaries.NODE)
        plane = _control_plane(state, supervisor)
        _node(state, supervisor, plane)


def _control_plane(state: Path, supervisor: Supervisor) -> ControlPlane:
    left_behind = (state / "etcd").exists()
    try:
        return _start_control_plane(state, supervisor)
    except ClusterError as error:
        if not left_behind:
            raise
        progress.say(f"  ...   the cluster left behind does not start, building a new one: {error}")
        _down(state)
        return _start_control_plane(state, Supervisor(state))


def _start_control_plane(state: Path, supervisor: Supervisor) -> ControlPlane:
    _remember_kernel_settings(state)
    network.ensure_node_address()
    plane = ControlPlane(state, supervisor, node_address=network.NODE_ADDRESS)
    with progress.step("control plane", quiet_below=progress.QUICK_SECONDS):
        plane.ensure()
    return plane


def _node(state: Path, supervisor: Supervisor, plane: ControlPlane) -> None:
    with progress.step("image registry", quiet_below=progress.QUICK_SECONDS):
        registry.ensure(supervisor, state / "registry.json")
        pause_image = images.ensure_pause()
    client = plane.client()
    with progress.step("containerd", quiet_below=progress.QUICK_SECONDS):
        if supervisor.ensure(node.containerd(state, pause_image)):
            supervisor.wait(node.CONTAINERD, lambda: node.containerd_answers(state), 60.0)
    with progress.step("node", quiet_below=progress.QUICK_SECONDS):
        supervisor.ensure(network.coredns(plane, state / "Corefile"))
        supervisor.ensure(network.kube_proxy(plane))
        kubelet = node.kubelet(state, plane)
        supervisor.ensure(kubelet)
        _ensure_storage_class(client)
        supervisor.ensure(_helper(state))
        # It gives up on a containerd whose CRI plug-in is still loading.
        supervisor.wait(node.KUBELET, lambda: _node_ready(client), _NODE_SECONDS, restarted=kubelet)
        supervisor.wait("coredns", network.coredns_ready, 20.0)
        supervisor.wait("kube-proxy", network.kube_proxy_ready, 20.0)


def down() -> None:
    """Take away every process, mount, interface, rule and folder of the cluster."""
    state = paths.state()
    with locks.exclusive(state.parent / "cluster.lock", "the test cluster"):
        _down(state)


def _down(state: Path) -> None:
    supervisor = Supervisor(state)
    with progress.step("stop the cluster"):
        node.stop(state, supervisor)
        for name in supervisor.names():
            # Nothing of theirs is kept, so there is nothing to wait for.
            supervisor.stop(name, grace=0)
        network.delete_pod_namespaces(node.pod_addresses(state))
        if state.exists():
            network.remove()
        node.unmount_below(state, paths.containerd_root(), paths.podman_root())
        node.remove_traces(state)
        _restore_kernel_settings(state)
        node.remove_folder(paths.podman_run())
        node.remove_folder(state)


def status() -> tuple[bool, list[str]]:
    """Whether everything runs, and a line for each part."""
    supervisor = Supervisor(paths.state())
    wanted = (
        "etcd",
        "kube-apiserver",
        "kube-controller-manager",
        "kube-scheduler",
        registry.NAME,
        node.CONTAINERD,
        node.KUBELET,
        "kube-proxy",
        "coredns",
        _HELPER,
    )
    pids = {name: supervisor.pid(name) for name in wanted}
    lines = [
        f"{name:24} {f'process {pid}' if pid else 'not running'}" for name, pid in pids.items()
    ]
    return all(pids.values()), lines


def audit_log() -> Path:
    return paths.state() / "audit" / "audit.log"


def _helper(state: Path) -> Service:
    """The helper, from a copy of its code: it must not matter which clone started it."""
    sources = sorted(paths.PACKAGE.glob("*.py"))
    revision = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    code = state / _HELPER / revision[:12]
    (code / "cluster").mkdir(parents=True, exist_ok=True)
    for source in sources:
        shutil.copyfile(source, code / "cluster" / source.name)
    search = {"PYTHONPATH": str(code), "PYTHONDONTWRITEBYTECODE": "1"}
    command = (os.path.realpath(sys.executable), "-m", "cluster.helper", str(state))
    return Service(_HELPER, command, search, revision)


def _ensure_storage_class(client: Client) -> None:
    path = "/apis/storage.k8s.io/v1/storageclasses"
    if not client.ok(f"{path}/{volumes.CLASS}"):
        client.call("POST", path, volumes.STORAGE_CLASS)


def _node_ready(client: Client) -> bool:
    try:
        found = client.call("GET", f"/api/v1/nodes/{NODE_NAME}")
    except ApiError:
        return False
    conditions = found.get("status", {}).get("conditions", [])
    ready = any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)
    tainted = found["spec"].get("taints", [])
    return ready and not tainted and not gpus.missing(found)


def _remember_kernel_settings(state: Path) -> None:
    record = state / "kernel-settings.json"
    if record.exists():
        return
    found = {}
    for name in KERNEL_SETTINGS:
        path = Path("/proc/sys", name)
        if path.exists():
            found[name] = path.read_text().strip()
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text(json.dumps(found))


def _restore_kernel_settings(state: Path) -> None:
    record = state / "kernel-settings.json"
    if not record.exists():
        return
    for name, value in json.loads(record.read_text()).items():
        path = Path("/proc/sys", name)
        if path.read_text().strip() != value:
            path.write_text(value)
