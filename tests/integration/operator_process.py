"""The operator as a process of its own, outside the cluster, with the rights of manifests/base."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import yaml

from cluster.handle import Cluster

ROOT = Path(__file__).resolve().parents[2]
ACCOUNT = "finetune-operator"
NAMESPACE = "finetune-system"
USER = f"system:serviceaccount:{NAMESPACE}:{ACCOUNT}"
START_SECONDS = 60.0


def install(cluster: Cluster) -> None:
    """CRD, RBAC and the rest, as a user would."""
    base = str(ROOT / "manifests" / "base")
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-k", base)
    cluster.wait_for_crd("finetunejobs.finetune.dev")


def kubeconfig(cluster: Cluster, path: Path, account: str = ACCOUNT) -> Path:
    """Access as a service account of the operator's namespace."""
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    token = cluster.kubectl("create", "token", account, "-n", NAMESPACE, "--duration=2h").strip()
    config["users"] = [{"name": account, "user": {"token": token}}]
    config["contexts"] = [
        {"name": account, "context": {"cluster": config["clusters"][0]["name"], "user": account}}
    ]
    config["current-context"] = account
    path.touch(mode=0o600)
    path.write_text(json.dumps(config))
    return path


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


class OperatorProcess:
    """Started, stopped and killed at will; its log in a file."""

    def __init__(
        self, kubeconfig: Path, log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.log = log
        self.health_port = free_port()
        self.metrics_port = free_port()
        self._command = [sys.executable, "-m", "finetune_operator", "--kubeconfig", str(kubeconfig)]
        self._environment = {
            **{name: value for name, value in os.environ.items() if name in ("PATH", "HOME")},
            "PYTHONPATH": str(ROOT / "operator"),
            "FINETUNE_TRAINER_IMAGE": "finetune-trainer:test",
            "FINETUNE_HEALTH_PORT": str(self.health_port),
            "FINETUNE_METRICS_PORT": str(self.metrics_port),
            **(environment or {}),
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start and wait until it works."""
        with self.log.open("ab") as output:
            seen = output.tell()
            self._process = subprocess.Popen(
                self._command, env=self._environment, stdout=output, stderr=output
            )
        deadline = time.monotonic() + START_SECONDS
        while b"Ready: " not in self.log.read_bytes()[seen:]:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"The operator did not start:\n{self.log.read_text()}")
            time.sleep(0.05)

    def stop(self) -> int:
        """Ask it to end, as a kubelet does, and grant it as long; its exit code."""
        return self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it between two instructions."""
        self._end(signal.SIGKILL)

    def wait_for_end(self, seconds: float) -> tuple[int, str]:
        """Exit code and last line of one that ends by itself."""
        process, self._process = self._process, None
        assert process is not None
        code = process.wait(timeout=seconds)
        return code, self.log.read_text().strip().splitlines()[-1]

    def run_to_its_end(self) -> tuple[int, str]:
        """Start one that cannot work: exit code and the last line it says."""
        ended = subprocess.run(
            self._command, env=self._environment, capture_output=True, text=True, timeout=60
        )
        return ended.returncode, ended.stderr.strip().splitlines()[-1]

    def memory(self) -> int:
        """Resident bytes."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        [line] = [line for line in status.splitlines() if line.startswith("VmRSS:")]
        return int(line.split()[1]) * 1024

    def _end(self, how: signal.Signals) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        process.send_signal(how)
        return process.wait(timeout=30)
