"""Releases of the chart on a real API server, and the operator as such a release sets it up.

No pod runs on a control plane: the operator is a process of the test's, with the service account
and the environment that the release gives to its Deployment.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cluster.handle import Cluster
from cluster.tools import Helm
from integration.operator_process import OperatorProcess, kubeconfig
from unit.helm.chart import CHART, NAMESPACE, Json

NAME = "finetune-operator"
CRD = "finetunejobs.finetune.dev"
PREVIOUS = Path(__file__).parent / "charts" / "finetune-operator-0.0.9.tgz"


@dataclass(frozen=True)
class Releases:
    """The one release that a namespace holds."""

    cluster: Cluster
    helm: Helm

    def install(self, *options: str, chart: Path = CHART, values: Json | None = None) -> str:
        """Install it; what Helm says."""
        arguments = ("install", NAME, str(chart), "--create-namespace", *options)
        said = self.helm(*arguments, values=values or {})
        self.cluster.wait_for_crd(CRD)
        return said

    def upgrade(self, *options: str, chart: Path = CHART) -> str:
        return self.helm("upgrade", NAME, str(chart), "--reset-then-reuse-values", *options)

    def rollback(self, revision: int) -> str:
        return self.helm("rollback", NAME, str(revision))

    def uninstall(self) -> str:
        """Remove it, if it is there."""
        return self.helm("uninstall", NAME, "--ignore-not-found")

    def history(self) -> list[tuple[int, str]]:
        """Revision and state of what was done."""
        found = json.loads(self.helm("history", NAME, "--output", "json"))
        return [(entry["revision"], entry["status"]) for entry in found]

    def crd(self) -> Json:
        found: Json = json.loads(self.cluster.kubectl("get", "crd", CRD, "-o", "json"))
        return found

    def deployment(self) -> Json:
        arguments = ("get", "deployment", NAME, "-n", NAMESPACE, "-o", "json")
        found: Json = json.loads(self.cluster.kubectl(*arguments))
        return found

    def operator(self, folder: Path, more: Mapping[str, str] | None = None) -> OperatorProcess:
        """The operator, with the rights and settings of this release."""
        (container,) = self.deployment()["spec"]["template"]["spec"]["containers"]
        told = {entry["name"]: entry["value"] for entry in container["env"]}
        access = kubeconfig(self.cluster, folder / "kubeconfig")
        return OperatorProcess(access, folder / "log", {**told, **(more or {})})
