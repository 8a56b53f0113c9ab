"""containerd and the kubelet: one node of this machine, settings that work in containers and VMs.

Starting them and taking away what they leave behind; the network is in `network.py`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from cluster import binaries, network, packages, paths, registry
from cluster.control_plane import NODE_NAME, ControlPlane
from cluster.processes import Service, Supervisor

CONTAINERD = "containerd"
KUBELET = "kubelet"
_CGROUPS = Path("/sys/fs/cgroup")
_POD_CGROUP = "kubepods"
_LOG_LINKS = Path("/var/log/containers")
_PLUGIN_SOCKET = Path("/var/lib/kubelet/device-plugins/kubelet.sock")
# Folders that the daemons make wherever they are told to keep their data.
_OUTSIDE = (
    _LOG_LINKS,
    _PLUGIN_SOCKET.parent,
    _PLUGIN_SOCKET.parent.parent,
    Path("/run/containerd/runc/k8s.io"),
    Path("/run/containerd/runc"),
    Path("/run/containerd/s"),
    Path("/run/containerd"),
    Path("/var/lib/cni/results"),
    Path("/var/lib/cni"),
)


def address(state: Path) -> Path:
    return state / "containerd" / "containerd.sock"


def pod_addresses(state: Path) -> Path:
    return state / "cni-addresses"


def containerd(state: Path, pause_image: str) -> Service:
    cri = 'plugins."io.containerd.grpc.v1.cri"'
    runc = f"{cri}.containerd.runtimes.runc"
    content = f"""\
version = 2
root = "{paths.containerd_root()}"
state = "{state / "containerd" / "run"}"
[grpc]
  address = "{address(state)}"
[plugins."io.containerd.internal.v1.opt"]
  path = "{state / "containerd" / "opt"}"
[{cri}]
  sandbox_image = "{pause_image}"
  # Without the right to lower a process's OOM score, as in most containers, pods would not start.
  restrict_oom_score_adj = true
  disable_apparmor = true
  max_concurrent_downloads = 8
[{cri}.cni]
  bin_dir = "{packages.CNI_PLUGINS}"
  conf_dir = "{state / "cni"}"
[{cri}.registry.mirrors."{registry.address()}"]
  endpoint = ["http://127.0.0.1:{registry.port()}"]
[{cri}.containerd]
  snapshotter = "overlayfs"
  default_runtime_name = "runc"
[{runc}]
  runtime_type = "io.containerd.runc.v2"
[{runc}.options]
  BinaryName = "runc"
  SystemdCgroup = false
"""
    configuration = state / "containerd" / "config.toml"
    configuration.parent.mkdir(parents=True, exist_ok=True)
    configuration.write_text(content)
    network.write_cni(state / "cni", pod_addresses(state))
    return Service(CONTAINERD, ("containerd", "-c", str(configuration)), revision=content)


def kubelet(state: Path, plane: ControlPlane) -> Service:
    keys = plane.pki
    content = json.dumps(
        {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(keys.certificate("ca"))},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": str(keys.certificate("kubelet")),
            "tlsPrivateKeyFile": str(keys.private_key("kubelet")),
            "address": network.NODE_ADDRESS,
            "healthzPort": 0,
            "clusterDNS": [network.NODE_ADDRESS],
            "clusterDomain": network.DOMAIN,
            "resolvConf": "",
            "containerRuntimeEndpoint": f"unix://{address(state)}",
            "podLogsDir": str(state / "pod-logs"),
            "maxPods": 250,
            # What follows lets a kubelet live where it is not master of the whole machine.
            "cgroupDriver": "cgroupfs",
            "enforceNodeAllocatable": [],
            "failSwapOn": False,
            "featureGates": {"KubeletInUserNamespace": True},
            "localStorageCapacityIsolation": False,
            "makeIPTablesUtilChains": False,
            # A developer's full disk is no reason to evict, nor to delete images.
            "evictionHard": {
                "memory.available": "0%",
                "nodefs.available": "0%",
                "nodefs.inodesFree": "0%",
                "imagefs.available": "0%",
                "imagefs.inodesFree": "0%",
            },
            "imageGCHighThresholdPercent": 100,
            # Quick to notice, quick to tell.
            "nodeStatusUpdateFrequency": "2s",
            "nodeStatusReportFrequency": "10s",
            "nodeLeaseDurationSeconds": 12,
            "volumeStatsAggPeriod": "-1s",
            "serializeImagePulls": False,
            "registryPullQPS": 0,
            "eventRecordQPS": 0,
            "kubeAPIQPS": 1000,
            "kubeAPIBurst": 2000,
        },
        indent=1,
    )
    configuration = state / "kubelet.json"
    configuration.write_text(content)
    command = (
        str(binaries.path_of("kubelet")),
        f"--config={configuration}",
        f"--kubeconfig={plane.component_kubeconfig('kubelet')}",
        f"--hostname-override={NODE_NAME}",
        f"--node-ip={network.NODE_ADDRESS}",
        f"--root-dir={state / 'kubelet'}",
        f"--cert-dir={state / 'kubelet-certificates'}",
    )
    return Service(KUBELET, command, revision=content)


def ctr(state: Path, *arguments: str) -> list[str]:
    """The command line of containerd's client, in the namespace of Kubernetes."""
    return ["ctr", "--address", str(address(state)), "--namespace", "k8s.io", *arguments]


def containerd_answers(state: Path) -> bool:
    return subprocess.run(ctr(state, "version"), capture_output=True).returncode == 0


def remove_containers(state: Path) -> None:
    """End every container of this containerd, which must be running."""
    for kind in ("tasks", "containers"):
        listed = subprocess.run(ctr(state, kind, "ls", "-q"), capture_output=True, text=True)
        names = listed.stdout.split()
        if names:
            force = ["--force"] if kind == "tasks" else []
            subprocess.run(ctr(state, kind, "rm", *force, *names), capture_output=True, check=False)


def kill_leftovers(state: Path) -> None:
    """End shims and pod processes that outlived a killed containerd."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        found = list(_leftovers(state))
        if not found:
            return
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)


def _leftovers(state: Path) -> Iterator[int]:
    own_socket = str(address(state)).encode()
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            arguments = entry.read_bytes().split(b"\0")
            if b"containerd-shim" in arguments[0] and own_socket in arguments:
                yield int(entry.parent.name)
    members = {pid for group in _pod_cgroups() for pid in _members(group)}
    # Inside a pod of some other cluster, its groups may show here: never end ourselves.
    if os.getpid() not in members:
        yield from members


def _pod_cgroups() -> list[Path]:
    """The pods' group in each hierarchy: one of version 2, several of version 1."""
    return [_CGROUPS / _POD_CGROUP, *_CGROUPS.glob(f"*/{_POD_CGROUP}")]


def _members(group: Path) -> Iterator[int]:
    for listing in group.rglob("cgroup.procs"):
        with contextlib.suppress(OSError):
            yield from map(int, listing.read_text().split())


def unmount_below(*roots: Path) -> None:
    """Unmount everything below these folders, the innermost first."""
    prefixes = tuple(f"{root}/" for root in roots)
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    # The kernel writes a blank in a path as \040.
    for mount in reversed([mount.encode().decode("unicode_escape") for mount in mounts]):
        if mount.startswith(prefixes):
            done = subprocess.run(["umount", mount], capture_output=True).returncode == 0
            if not done:
                subprocess.run(["umount", "--lazy", mount], capture_output=True, check=False)


def remove_traces(state: Path) -> None:
    """What the node wrote outside its own folders."""
    if _LOG_LINKS.is_dir():
        for link in _LOG_LINKS.iterdir():
            if link.is_symlink() and str(state) in os.readlink(link):
                link.unlink()
    for group in _pod_cgroups():
        for folder, _, _ in os.walk(group, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(folder)
    if _PLUGIN_SOCKET.is_socket() and _deaf(_PLUGIN_SOCKET):
        _PLUGIN_SOCKET.unlink()
    for folder_outside in _OUTSIDE:
        # Not empty means that somebody else uses it.
        with contextlib.suppress(OSError):
            folder_outside.rmdir()


def _deaf(path: Path) -> bool:
    """Whether nobody listens on a socket any more."""
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as probe:
        return probe.connect_ex(str(path)) != 0


def remove_folder(folder: Path) -> None:
    """Delete a folder of the node, in which nothing may be mounted any more."""
    unmount_below(folder)
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        shutil.rmtree(folder)


def stop(state: Path, supervisor: Supervisor) -> None:
    """End the kubelet, every container, and containerd."""
    supervisor.stop(KUBELET, grace=2.0)
    if supervisor.pid(CONTAINERD) is not None:
        remove_containers(state)
    supervisor.stop(CONTAINERD)
    kill_leftovers(state)
