"""Whether this machine can run the whole cluster, and what to do about each thing missing.

Every check is one row: what must hold, and the sentence to show when it does not.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from cluster import binaries, packages, paths
from cluster.errors import ClusterError

REMEDY = (
    "Fix that, or use kind on a machine with a Docker engine (FINETUNE_TEST_CLUSTER=kind), "
    "or any cluster you have (KUBECONFIG)."
)
FREE_GIB = 5


@dataclass(frozen=True)
class Check:
    """A condition and, when it is false, what a person reads."""

    holds: Callable[[], bool]
    problem: str


def _linux() -> bool:
    return sys.platform == "linux"


def _root() -> bool:
    return os.geteuid() == 0


def _installable() -> bool:
    return not packages.missing() or shutil.which("apt-get") is not None


def _go() -> bool:
    return not binaries.missing(binaries.CONTROL_PLANE + binaries.NODE) or (
        binaries.go_problem() is None
    )


def _disk() -> bool:
    path = paths.cache()
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free >= FREE_GIB * 2**30


def _short_paths() -> bool:
    # The kernel's limit for a socket's path is 107 bytes.
    return len(str(paths.state() / "containerd" / "containerd.sock.ttrpc")) <= 107


def _memory_cgroup() -> bool:
    unified = Path("/sys/fs/cgroup/cgroup.controllers")
    if unified.exists():
        return "memory" in unified.read_text().split()
    return Path("/sys/fs/cgroup/memory").is_dir()


def _overlay() -> bool:
    if shutil.which("modprobe"):
        subprocess.run(["modprobe", "-q", "overlay"], capture_output=True, check=False)
    return "\toverlay\n" in Path("/proc/filesystems").read_text()


def _probe(end: str = "") -> str:
    """A link's name that no other process tries, within its 15 characters."""
    return f"ft{os.getpid()}{end}"


def _link(*arguments: str) -> bool:
    name = _probe()
    made = subprocess.run(["ip", "link", "add", name, *arguments], capture_output=True)
    if made.returncode == 0:
        subprocess.run(["ip", "link", "delete", name], capture_output=True, check=False)
    return made.returncode == 0


def _nftables() -> bool:
    return subprocess.run(["nft", "list", "tables"], capture_output=True).returncode == 0


def _forwarding_allowed() -> bool:
    iptables = shutil.which("iptables")
    if iptables is None:
        return True
    result = subprocess.run([iptables, "-S", "FORWARD"], capture_output=True, text=True)
    return "-P FORWARD DROP" not in result.stdout


def _no_other_kubelet() -> bool:
    own = str(paths.binaries())
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = entry.read_bytes().split(b"\0")[0].decode(errors="replace")
        except OSError:
            continue
        if Path(command).name == "kubelet" and not command.startswith(own):
            return False
    return True


BEFORE_INSTALLING = (
    Check(_linux, "This is not Linux."),
    Check(_root, "This is not root: run as root, a node needs mounts and network interfaces."),
    Check(
        _installable,
        "Commands are missing and there is no apt-get: install the packages that provide "
        f"{', '.join(packages.NEEDED)}.",
    ),
    Check(_go, "Kubernetes is not built yet and Go 1.24 or newer is not on PATH: install Go."),
    Check(
        _disk,
        f"Less than {FREE_GIB} GiB are free in the cache: free some, or set XDG_CACHE_HOME.",
    ),
    Check(
        _short_paths, "The state folder's path is too long for sockets: set XDG_STATE_HOME shorter."
    ),
)
ONCE_INSTALLED = (
    Check(_memory_cgroup, "The memory cgroup is off: boot with cgroup_enable=memory."),
    Check(_overlay, "The kernel has no overlay file system: load the module `overlay`."),
    Check(
        lambda: _link("type", "veth", "peer", "name", _probe("p")),
        "The kernel makes no veth interfaces: load the module `veth`, or allow CAP_NET_ADMIN.",
    ),
    Check(
        lambda: _link("type", "bridge"),
        "The kernel makes no bridges: load the module `bridge`, or allow CAP_NET_ADMIN.",
    ),
    Check(_nftables, "The kernel has no nftables: load the module `nf_tables`."),
    Check(
        _forwarding_allowed,
        "The firewall drops forwarded packets (iptables policy FORWARD DROP, as Docker sets it): "
        "run `iptables -P FORWARD ACCEPT`.",
    ),
    Check(_no_other_kubelet, "Another kubelet runs on this machine: stop it first."),
)


def failed(checks: Iterable[Check]) -> list[str]:
    return [check.problem for check in checks if not check.holds()]


def problems() -> list[str]:
    """Everything that is missing, as far as it can be told before anything is installed."""
    found = failed(BEFORE_INSTALLING)
    if not found and not packages.missing():
        found = failed(ONCE_INSTALLED)
    return found


def require(checks: Iterable[Check]) -> None:
    found = failed(checks)
    if found:
        lines = "\n".join(f"  - {problem}" for problem in found)
        raise ClusterError(f"The test cluster cannot run here:\n{lines}\n{REMEDY}")
