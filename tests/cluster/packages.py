"""What the node needs from the distribution, installed with apt where something is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from cluster import locks, paths, progress
from cluster.errors import ClusterError

CNI_PLUGINS = Path("/usr/lib/cni")
# A command or file that shows the package is there -> the Debian package.
NEEDED = {
    "containerd": "containerd",
    "debootstrap": "debootstrap",
    "docker-registry": "docker-registry",
    "git": "git",
    "ip": "iproute2",
    "nft": "nftables",
    "openssl": "openssl",
    "podman": "podman",
    "runc": "runc",
    str(CNI_PLUGINS / "ptp"): "containernetworking-plugins",
}
_POLICY = Path("/usr/sbin/policy-rc.d")


def missing(needed: Mapping[str, str] = NEEDED) -> list[str]:
    """The packages whose command is not here."""
    return [package for shown, package in needed.items() if not _present(shown)]


def ensure(needed: Mapping[str, str] = NEEDED) -> None:
    """Install what is missing; the caller has made sure that this is root on Debian."""
    wanted = missing(needed)
    if not wanted:
        return
    result = _install(wanted)
    still = missing(needed)
    if still:
        tail = "\n".join((result.stdout + result.stderr).splitlines()[-5:])
        raise ClusterError(f"Install {' '.join(still)} by hand; apt-get could not:\n{tail}")


def ensure_command(command: str, package: str) -> Path:
    """Where the command is, installed if this is root on Debian. ClusterError if it is not."""
    found = shutil.which(command)
    if found is None and os.geteuid() == 0 and shutil.which("apt-get") is not None:
        _install([package])
        found = shutil.which(command)
    if found is None:
        raise ClusterError(f"{command} is not on PATH: install {package}.")
    return Path(found)


def _install(wanted: list[str]) -> subprocess.CompletedProcess[str]:
    command = ["apt-get", "install", "-y", "-q", "--no-install-recommends", *wanted]
    # apt-get fails at once where another one is at work, and several of ours may be.
    alone = locks.exclusive(paths.cache() / "apt.lock", "installing packages")
    with alone, progress.step(f"install {', '.join(wanted)}"), _services_stay_off():
        result = _apt(command)
        if result.returncode != 0:
            _apt(["apt-get", "update", "-q"])
            result = _apt(command)
    return result


def _apt(command: list[str]) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    return subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )


def _present(shown: str) -> bool:
    return Path(shown).exists() if shown.startswith("/") else shutil.which(shown) is not None


@contextmanager
def _services_stay_off() -> Iterator[None]:
    """Debian starts what it installs; a registry on the port we want would be in the way."""
    if _POLICY.exists():
        yield
        return
    _POLICY.write_text("#!/bin/sh\nexit 101\n")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink(missing_ok=True)
