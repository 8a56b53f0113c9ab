"""`down` leaves nothing of what `up` made; a damaged cluster is repaired.

Takes the machine's cluster down and up again: run it alone.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster import images, local, network, paths, provider
from cluster.handle import Cluster
from cluster.processes import Supervisor

pytestmark = [pytest.mark.cluster_lifecycle, pytest.mark.timeout(900)]

WARM_SECONDS = 30.0
NO_OP_SECONDS = 2.0
OUTSIDE = ("/run", "/run/netns", "/var/lib", "/var/lib/cni", "/var/log", "/sys/fs/cgroup/memory")


def _lines(*command: str) -> set[str]:
    return set(subprocess.run(command, capture_output=True, text=True).stdout.splitlines())


def _processes() -> set[str]:
    """Every live process that is not of a test or a person, by its program."""
    ours = (str(paths.cache()), "containerd", "docker-registry", "/pause", "cluster.helper")
    found = set()
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            arguments = entry.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        line = " ".join(arguments)
        # Control planes of tests that run beside this one live in temporary folders.
        if any(mark in line for mark in ours) and "finetune-control-plane-" not in line:
            found.add(f"{entry.parent.name} {line[:200]}")
    return found


def _snapshot() -> dict[str, set[str]]:
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    return {
        "mounts": {line.split()[4] for line in mounts},
        "interfaces": {path.name for path in Path("/sys/class/net").iterdir()},
        "routes": _lines("ip", "route", "show", "table", "all"),
        "rules": _lines("nft", "list", "ruleset"),
        "settings": {
            f"{name}={Path('/proc/sys', name).read_text().strip()}"
            for name in local.KERNEL_SETTINGS
            if Path("/proc/sys", name).exists()
        },
        "folders": {
            str(path)
            for folder in OUTSIDE
            if Path(folder).is_dir()
            for path in Path(folder).iterdir()
        },
        "processes": {line for line in _processes() if "venv" not in line},
    }


@pytest.fixture
def up_again() -> Iterator[None]:
    """Whatever happens, the machine's cluster is up afterwards."""
    yield
    local.up()


def _run_a_pod(cluster: Cluster) -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c", "image": _pause_image()}]},
    }
    cluster.kubectl("apply", "-f", "-", input=json.dumps(pod))
    cluster.kubectl("wait", "--for=condition=Ready", "pod/p", "--timeout=60s")


def _pause_image() -> str:
    return images.ensure_pause()


@pytest.mark.usefixtures("up_again")
def test_down_leaves_nothing_and_the_next_up_is_warm() -> None:
    local.down()
    before = _snapshot()
    start = time.monotonic()
    cluster = provider.Local().provide()
    spent = time.monotonic() - start
    _run_a_pod(cluster)
    assert network.NODE_INTERFACE in _snapshot()["interfaces"]
    local.down()
    after = _snapshot()
    for what, lines in before.items():
        assert after[what] - lines == set(), f"left behind: {what}"
        assert lines - after[what] == set(), f"taken away though not ours: {what}"
    assert not paths.state().exists()
    assert spent < WARM_SECONDS


@pytest.mark.usefixtures("up_again")
def test_up_repairs_what_was_killed() -> None:
    cluster = provider.Local().provide()
    cluster.kubectl("create", "configmap", "survivor")
    supervisor = Supervisor(paths.state())
    names = supervisor.names()
    for name in names:
        pid = supervisor.pid(name)
        assert pid is not None, f"{name} does not run"
        os.kill(pid, signal.SIGKILL)
    local.up()
    assert all(supervisor.pid(name) is not None for name in names)
    assert "survivor" in cluster.kubectl("get", "configmaps", "-o", "name")
    cluster.kubectl("delete", "configmap", "survivor")
    start = time.monotonic()
    local.up()
    assert time.monotonic() - start < NO_OP_SECONDS


@pytest.mark.usefixtures("up_again")
@pytest.mark.parametrize("seconds", [0.5, 2.0, 4.0])
def test_an_interrupted_up_is_simply_run_again(seconds: float) -> None:
    local.down()
    interrupted = subprocess.Popen([sys.executable, "-m", "cluster", "up"])
    time.sleep(seconds)
    interrupted.kill()
    interrupted.wait()
    cluster = provider.Local().provide()
    _run_a_pod(cluster)
    cluster.kubectl("delete", "pod", "p", "--now")


@pytest.mark.usefixtures("up_again")
def test_down_ends_pods_whose_runtime_was_killed() -> None:
    cluster = provider.Local().provide()
    _run_a_pod(cluster)
    supervisor = Supervisor(paths.state())
    for name in supervisor.names():
        supervisor.stop(name, grace=0)
    local.down()
    assert [line for line in _processes() if "/pause" in line or "shim" in line] == []
    assert not list(Path("/run/netns").glob("cni-*"))
